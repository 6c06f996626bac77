//! What a request that meets an outage sets off: another instance, or none.
//!
//! `seed` is `handleNewRequest` of the article on online dynamic switching among this project's sources: a request that finds
//! its instance unavailable starts a new one and fails, and the route table is updated when that is ready. Every such request
//! does so: as long as the new instance starts, each further request that fails starts one more. A herd starts a herd.
//!
//! `one-at-a-time` is the same with a memory: nothing is started while something starts.

use schemars::JsonSchema;
use serde::Deserialize;

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Every request that fails starts an instance.
    Seed,
    /// Only one at a time.
    OneAtATime,
}

/// Settings of [`starts_another`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReplacementSettings {
    /// Which way it goes.
    pub way: Way,
    /// Instances beyond which nothing is started.
    pub most: u32,
}

/// Whether a request that has failed starts an instance, with so many wanted and so many of them on their way.
pub fn starts_another(settings: &ReplacementSettings, wanted: u32, starting: u32) -> bool {
    let free = match settings.way {
        Way::Seed => true,
        Way::OneAtATime => starting == 0,
    };
    free && wanted < settings.most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_herd_starts_a_herd() {
        let seed = ReplacementSettings { way: Way::Seed, most: 5 };
        assert!(starts_another(&seed, 4, 3));
        assert!(!starts_another(&seed, 5, 3));
        let sane = ReplacementSettings { way: Way::OneAtATime, most: 5 };
        assert!(starts_another(&sane, 4, 0) && !starts_another(&sane, 4, 1));
    }
}
