//! Envoy's schedule for hosts of different weight.
//!
//! Envoy, `EdfScheduler` in `edf_scheduler.h` (`createWithPicks`, `pickAndAdd`) at 00cf9a05.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::policies::view::Slot;

/// Envoy's earliest-deadline-first schedule: whoever is picked comes up again 1 / weight later.
#[derive(Clone, Debug, Default)]
pub(super) struct EdfScheduler {
    current_time: f64,
    order_offset: u64,
    queue: BinaryHeap<EdfEntry>,
}

#[derive(Clone, Copy, Debug)]
struct EdfEntry {
    deadline: f64,
    /// First in, first out among equal deadlines.
    order_offset: u64,
    slot: Slot,
}

impl EdfScheduler {
    /// A schedule as if `picks` picks had been made from one that began with all hosts, in O(n): each host is credited with
    /// its whole share of the picks at once, and only the few left over are made one by one.
    pub(super) fn restart_with_picks(&mut self, hosts: &[Slot], weight: impl Fn(Slot) -> f64, picks: u32) {
        // Upstream's bound on the number of emulated picks.
        let picks = picks % (u32::MAX / 10);
        // Upstream's nudge, which keeps weights that are multiples of each other from tying by rounding.
        let nudged = |slot| weight(slot) + 1e-13;
        let weights_sum: f64 = hosts.iter().map(|&slot| nudged(slot)).sum();
        self.queue.clear();
        self.queue.reserve(hosts.len());
        self.current_time = 0.0;
        let mut picks_so_far = 0;
        for (i, &slot) in hosts.iter().enumerate() {
            let weight = nudged(slot);
            let mut share = (weight * f64::from(picks) / weights_sum) as u32;
            if share > 0 && f64::from(share) / weight >= f64::from(picks) / weights_sum {
                // Rounding gave it a pick that it has not reached yet.
                share -= 1;
            }
            self.current_time = self.current_time.max(f64::from(share) / weight);
            let deadline = f64::from(share + 1) / weight;
            self.queue.push(EdfEntry { deadline, order_offset: i as u64, slot });
            picks_so_far += share;
        }
        self.order_offset = hosts.len() as u64;
        for _ in picks_so_far..picks {
            self.pick_and_add(&weight);
        }
    }

    /// The host with the earliest deadline, put back with its weight of now.
    #[inline]
    pub(super) fn pick_and_add(&mut self, weight: impl Fn(Slot) -> f64) -> Option<Slot> {
        // Changing the top in place sifts once where a pop and a push would sift twice; the order is total, so both ways
        // give the same picks.
        let mut top = self.queue.peek_mut()?;
        let slot = top.slot;
        self.current_time = top.deadline;
        *top = EdfEntry {
            deadline: self.current_time + 1.0 / weight(slot),
            order_offset: self.order_offset,
            slot,
        };
        self.order_offset += 1;
        Some(slot)
    }
}

impl Ord for EdfEntry {
    /// Reversed, because [`BinaryHeap`] gives the largest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order_offset.cmp(&self.order_offset))
    }
}

impl PartialOrd for EdfEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for EdfEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for EdfEntry {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Endpoints;

    #[test]
    fn emulated_picks_are_picks() {
        let endpoints = Endpoints { weight: vec![25, 75, 10, 3], ..Endpoints::uniform(4) };
        let weight = |slot: Slot| f64::from(endpoints.weight(slot));
        for skipped in [0, 1, 7, 23, 100, 1000] {
            let mut one_by_one = EdfScheduler::default();
            one_by_one.restart_with_picks(&endpoints.eligible, weight, 0);
            for _ in 0..skipped {
                one_by_one.pick_and_add(weight);
            }
            let mut at_once = EdfScheduler::default();
            at_once.restart_with_picks(&endpoints.eligible, weight, skipped);
            // Ties may fall otherwise (upstream says so); over a whole round of 113 picks the counts agree.
            let counts = |schedule: &mut EdfScheduler| {
                let mut counts = [0; 4];
                for _ in 0..1130 {
                    counts[schedule.pick_and_add(weight).unwrap().0 as usize] += 1;
                }
                counts
            };
            let (a, b): ([i32; 4], [i32; 4]) = (counts(&mut one_by_one), counts(&mut at_once));
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() <= 1, "after {skipped}: {a} and {b}");
            }
        }
    }
}
