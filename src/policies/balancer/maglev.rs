//! Envoy's Maglev: requests with the same key go to the same endpoint, by a table of nearly equal shares.
//!
//! ## What it does
//! A table of `table-size` entries is filled by the endpoints in turn: each has its own permutation of the entries (an
//! offset and a step, from two hashes of its name) and takes the next entry of it that is still free. An endpoint of
//! weight w takes part in w out of max-w rounds. A request goes to the entry at (hash of its key) mod (table size).
//!
//! ## When it helps
//! As `ring-hash`, with shares that differ by a percent at most (one entry, while all weights are equal), and a lookup
//! in constant time.
//!
//! ## How it fails
//! As `ring-hash`; and when the list changes, a few keys move between endpoints that stay (about 1 to 2 % with the
//! default size, more with a small table). A table takes long to build and much memory; it is built anew at every
//! change of the list.
//!
//! ## Settings
//! * `table-size` (default 65537; a prime number of at most 5000011): entries.
//! * `retry-other-host` (default false): retries hash anew.
//!
//! The edge says which attribute of the request is hashed: `affinity = "session"`.
//!
//! ## Origin
//! Eisenbud et al., *Maglev: A Fast and Reliable Software Network Load Balancer*, NSDI 2016, section 3.4; in the form
//! of Envoy, `source/extensions/load_balancing_policies/maglev/maglev_lb.cc` at 104df3de
//! (`constructMaglevTableInternal`, `chooseHost`).
//!
//! ## Deliberate differences
//! As in `ring-hash`: names instead of addresses, one try per retry, no bounded loads, a table for each client (4 bytes
//! an entry).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::ring_hash::hosts;
use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::random::xxhash::xxhash64;
use crate::time::Time;

/// Settings of `balancer.maglev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MaglevSettings {
    /// Entries, a prime number.
    #[serde(deserialize_with = "table_size")]
    #[schemars(range(min = 2, max = 5_000_011))]
    pub table_size: u32,
    /// Retries hash anew.
    pub retry_other_host: bool,
}

impl Default for MaglevSettings {
    fn default() -> Self {
        Self { table_size: 65_537, retry_other_host: false }
    }
}

fn table_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = u32::deserialize(deserializer)?;
    if size > 5_000_011 {
        return Err(de::Error::custom(format!("table-size is {size}, but Envoy takes at most 5000011")));
    }
    let is_prime = size >= 2 && (2..=size.isqrt()).all(|d| !size.is_multiple_of(d));
    if is_prime {
        return Ok(size);
    }
    Err(de::Error::custom(format!("the table-size of maglev must be a prime number, and {size} is none")))
}

/// Envoy's table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Position of the host in the list, by entry.
    table: Vec<u32>,
}

impl Table {
    /// Of hosts with keys and weights.
    pub fn new(hosts: &[(String, u32)], table_size: u32) -> Self {
        /// Envoy's `TableBuildEntry`.
        struct Build {
            host: u32,
            offset: u64,
            skip: u64,
            weight: f64,
            target_weight: f64,
            next: u64,
        }
        if hosts.is_empty() {
            return Self::default();
        }
        let size = u64::from(table_size);
        let sum: u64 = hosts.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let mut builds: Vec<Build> = (0..)
            .zip(hosts)
            .map(|(host, (key, weight))| Build {
                host,
                offset: xxhash64(key.as_bytes(), 0) % size,
                skip: xxhash64(key.as_bytes(), 1) % (size - 1) + 1,
                weight: f64::from(*weight) / sum as f64,
                target_weight: 0.0,
                next: 0,
            })
            .collect();
        // By key, so that the order of the list does not matter.
        builds.sort_by(|a, b| hosts[a.host as usize].0.cmp(&hosts[b.host as usize].0));
        let max_normalized_weight = builds.iter().map(|build| build.weight).fold(0.0, f64::max);
        let mut table = vec![u32::MAX; table_size as usize];
        let mut filled = 0;
        for iteration in 1_u32.. {
            for build in &mut builds {
                // The heaviest takes part in every iteration, one of a third of its weight in every third.
                if f64::from(iteration) * build.weight < build.target_weight {
                    continue;
                }
                build.target_weight += max_normalized_weight;
                let mut entry = (build.offset + build.skip * build.next) % size;
                while table[entry as usize] != u32::MAX {
                    build.next += 1;
                    entry = (build.offset + build.skip * build.next) % size;
                }
                table[entry as usize] = build.host;
                build.next += 1;
                filled += 1;
                if filled == table_size {
                    return Self { table };
                }
            }
        }
        unreachable!("every permutation reaches every entry, since the size is prime")
    }

    /// Position of the host in the list, by entry.
    pub fn entries(&self) -> &[u32] {
        &self.table
    }

    /// Position of the host for `hash`; an `attempt` above 0 is a retry.
    #[inline]
    pub fn choose_host(&self, hash: u64, attempt: u32) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        // Upstream's change of most bits for each retry.
        let hash = if attempt > 0 { hash ^ (u64::MAX - u64::from(attempt) + 1) } else { hash };
        Some(self.table[(hash % self.table.len() as u64) as usize])
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Maglev(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: MaglevSettings,
    table: Table,
}

impl Algorithm for Maglev {
    type Settings = MaglevSettings;

    fn new(settings: &MaglevSettings, _now: Time) -> Self {
        Self(Box::new(State { settings: *settings, table: Table::default() }))
    }
}

impl Balancer for Maglev {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        self.0.table = Table::new(&hosts(endpoints), self.0.settings.table_size);
    }

    #[inline]
    fn pick(
        &mut self,
        _now: Time,
        request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let State { settings, table } = &*self.0;
        let hash = request.affinity.unwrap_or_else(|| rng.bits());
        let attempt = if settings.retry_other_host { request.attempt } else { 0 };
        let host = table.choose_host(hash, attempt)?;
        Some(endpoints.eligible[host as usize])
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(n: u32) -> Table {
        let hosts: Vec<_> = (0..n).map(|host| (format!("api-{host}"), 1)).collect();
        Table::new(&hosts, 65_537)
    }

    #[test]
    fn equal_weights_get_equal_shares_and_few_keys_move() {
        let (all, fewer) = (table_of(20), table_of(19));
        let count = |host| all.entries().iter().filter(|&&entry| entry == host).count();
        assert!((0..20).all(|host| (3276..=3277).contains(&count(host))));
        let strays = all.entries().iter().zip(fewer.entries()).filter(|(a, b)| **a != 19 && a != b).count();
        // The paper's figure 12 (read by eye): well below 3 % for a table more than 100 times the number of hosts.
        assert!(strays < 65_537 * 3 / 100, "{strays}");
    }

    #[test]
    fn settings_are_checked() {
        let parse = |text: &str| serde_json::from_str::<MaglevSettings>(text);
        assert_eq!(parse("{}").unwrap(), MaglevSettings::default());
        assert!(parse(r#"{"table-size": 5000011}"#).is_ok());
        for size in ["0", "1", "65536"] {
            let text = format!("{{\"table-size\": {size}}}");
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains("prime number"), "{error}");
        }
        assert!(parse(r#"{"table-size": 5000077}"#).unwrap_err().to_string().contains("at most 5000011"));
    }
}
