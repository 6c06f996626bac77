//! Two copies of each call in two queues; the instance that starts one calls the other off.
//!
//! ## What it does
//! A second copy goes out `delay` after the first, to another instance. Each copy knows of the other. When one of them starts to be worked on,
//! its instance sends word to the other instance, which takes its copy out of the queue unless it has started, too. The first good answer ends the
//! call; a copy that fails ends it only if no other is left.
//!
//! ## When it helps
//! Where most of the time is spent waiting in a queue and the caller cannot see how long each is: the call gets the shorter of two queues,
//! and the work is done once.
//!
//! ## How it fails
//! While word is under way both may start: with empty queues that happens to nearly every call, unless `delay` is longer than a message takes.
//! It does nothing about instances that are slow at the work itself, as the copy there has started and called the fast one off. Twice
//! as many messages.
//!
//! ## Settings
//! * `delay` (default `1ms`): the authors advise twice the mean time of a message, 1 ms or less in a modern data centre.
//!
//! ## Origin
//! J. Dean and L. A. Barroso, *The Tail at Scale*, Communications of the ACM 56 (2013), *Tied requests*.
//!
//! ## Deliberate differences
//! The authors' system also lets a copy in a queue see how long the other queue is; that is not modelled. Word from one instance to the other
//! takes the time of one message between their places.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{HedgePolicy, Verdict};
use crate::policies::Algorithm;
use crate::policies::view::{Class, Outcome};
use crate::time::{Duration, Time};

/// Settings of `hedge.tied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TiedSettings {
    /// From the first copy to the second.
    pub delay: Duration,
}

impl Default for TiedSettings {
    fn default() -> Self {
        Self { delay: Duration::from_millis(1) }
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Tied(TiedSettings);

impl Algorithm for Tied {
    type Settings = TiedSettings;

    fn new(settings: &TiedSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl HedgePolicy for Tied {
    #[inline]
    fn most(&self) -> u32 {
        2
    }

    #[inline]
    fn delay(&mut self, _now: Time, _sent: u32) -> Option<Duration> {
        Some(self.0.delay)
    }

    #[inline]
    fn on_outcome(&mut self, _now: Time, outcome: &Outcome) -> Verdict {
        match outcome.class {
            Class::Success => Verdict::Final,
            Class::Abandoned => Verdict::Wait,
            // A first copy that fails does not wait for the delay.
            Class::Failure | Class::Timeout | Class::Rejected => Verdict::Next,
        }
    }

    #[inline]
    fn goes_on_after(&self, class: Class) -> bool {
        !matches!(class, Class::Success | Class::Abandoned)
    }

    #[inline]
    fn is_tied(&self) -> bool {
        true
    }
}
