//! The largest decision of the last while (upstream: `pkg/autoscaler/aggregation/max`).

use std::collections::VecDeque;

use crate::time::{Duration, Time};

/// A maximum over as many time slots as the delay has ticks. Slots are cut at multiples of the tick, so a decision counts
/// for the delay rounded up to whole ticks, less the part of its slot that had passed.
#[derive(Clone, Debug)]
pub struct DelayWindow {
    /// Slot and value, values falling: what is followed by something as large can no longer be the maximum.
    maxima: VecDeque<(u64, u32)>,
    slots: u64,
    tick: Duration,
}

impl DelayWindow {
    /// A window over `delay`, which is not zero, in slots of one `tick`, which is not zero either.
    pub fn new(delay: Duration, tick: Duration) -> Self {
        let slots = delay.0.div_ceil(tick.0);
        Self { maxima: VecDeque::with_capacity(slots as usize), slots, tick }
    }

    /// Adds a decision and gives the largest one of the window, `value` included.
    pub fn record(&mut self, now: Time, value: u32) -> u32 {
        let slot = now.0 / self.tick.0;
        while self.maxima.back().is_some_and(|&(_, older)| older <= value) {
            self.maxima.pop_back();
        }
        while self.maxima.front().is_some_and(|&(oldest, _)| slot - oldest >= self.slots) {
            self.maxima.pop_front();
        }
        // Of one slot, the largest counts; whatever is left of this slot is larger.
        if self.maxima.back().is_none_or(|&(last, _)| last != slot) {
            self.maxima.push_back((slot, value));
        }
        self.maxima[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(window: &mut DelayWindow, secs: u64, value: u32) -> u32 {
        window.record(Time::from_secs(secs), value)
    }

    #[test]
    fn a_decision_counts_for_its_slots() {
        let mut window = DelayWindow::new(Duration::from_secs(5), Duration::from_secs(2));
        assert_eq!(record(&mut window, 3, 9), 9);
        assert_eq!(record(&mut window, 7, 1), 9, "slots 1 to 3 are one window");
        assert_eq!(record(&mut window, 8, 2), 2, "five seconds later, in slot 4, it has left");
    }

    #[test]
    fn within_a_slot_the_largest_counts() {
        let mut window = DelayWindow::new(Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(record(&mut window, 2, 5), 5);
        assert_eq!(record(&mut window, 3, 1), 5, "not the same as no delay");
        assert_eq!(record(&mut window, 4, 1), 1);
    }

    #[test]
    fn it_never_holds_more_than_its_slots() {
        let mut window = DelayWindow::new(Duration::from_secs(6), Duration::from_secs(2));
        for second in 0..100 {
            assert!(record(&mut window, second, 1000 - second as u32) > 0);
            assert!(window.maxima.len() <= 3);
        }
    }
}
