//! Hedging: further copies of a call that has not been answered yet; the first answer counts.

pub mod grpc;
pub mod percentile;
pub mod tied;

use super::view::{Class, Outcome};
use crate::time::{Duration, Time};

/// What follows the end of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the answer to the call; the others are no longer wanted.
    Final,
    /// The next copy goes out at once, if there is one left; else the others may still answer.
    Next,
    /// Nothing, as long as another copy may answer.
    Wait,
}

/// Decides when copies of a call go out, and which answer ends it. What it keeps of one call is in [`Copies`].
pub trait HedgePolicy {
    /// Most copies of a call, the first included.
    fn most(&self) -> u32;

    /// How long after copy number `sent` (1 for the first) the next one is due, at the moment when it goes out; `None`: there
    /// will be no other by time alone.
    fn delay(&mut self, now: Time, sent: u32) -> Option<Duration>;

    /// A copy ended.
    fn on_outcome(&mut self, now: Time, outcome: &Outcome) -> Verdict;

    /// Whether another copy goes out because one ended in `class`.
    #[inline]
    fn goes_on_after(&self, _class: Class) -> bool {
        false
    }

    /// Whether a copy that starts at its instance calls off the others that have not.
    #[inline]
    fn is_tied(&self) -> bool {
        false
    }

    /// What charts show: named readings at `now`.
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

/// The copies of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Copies that went out.
    pub sent: u32,
    /// Copies that have not ended.
    pub open: u32,
    /// When the next one is due.
    pub due: Option<Time>,
}

/// What the caller has to do about a hedged call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Send another copy and say so with [`Copies::sent`], or say with [`Copies::held_back`] that a budget forbids it.
    Send,
    /// Nothing before `due`.
    Wait,
    /// Give the caller the outcome at hand, and let go of the other copies.
    End,
}

impl Copies {
    /// A copy goes out.
    #[inline]
    pub fn sent(&mut self, now: Time, policy: &mut impl HedgePolicy) {
        self.sent += 1;
        self.open += 1;
        let delay = if self.sent < policy.most() { policy.delay(now, self.sent) } else { None };
        self.due = delay.map(|delay| now + delay);
    }

    /// A budget forbids another copy: there will be none.
    #[inline]
    pub const fn held_back(&mut self) -> Act {
        self.due = None;
        if self.open == 0 { Act::End } else { Act::Wait }
    }

    /// A copy ended.
    #[inline]
    pub fn ended(&mut self, now: Time, policy: &mut impl HedgePolicy, outcome: &Outcome) -> Act {
        self.open -= 1;
        match policy.on_outcome(now, outcome) {
            Verdict::Final => Act::End,
            // No copy that time alone would send is forgotten, and none that was held back goes out after all.
            Verdict::Next if self.due.is_some() => Act::Send,
            _ if self.open > 0 => Act::Wait,
            _ => Act::End,
        }
    }
}

registry! {
    ($)
    /// A hedging policy and its settings, as written in a scenario.
    HedgeSettings,
    /// Any hedging policy, by value.
    AnyHedge: HedgePolicy,
    family "hedge" in "hedge",
    "grpc" => grpc::Grpc,
    "percentile" => percentile::Percentile,
    "tied" => tied::Tied,
}

const _: () = assert!(size_of::<AnyHedge>() <= 40);

impl HedgePolicy for AnyHedge {
    #[inline]
    fn most(&self) -> u32 {
        dispatch!(self, policy => policy.most())
    }

    #[inline]
    fn delay(&mut self, now: Time, sent: u32) -> Option<Duration> {
        dispatch!(self, policy => policy.delay(now, sent))
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, outcome: &Outcome) -> Verdict {
        dispatch!(self, policy => policy.on_outcome(now, outcome))
    }

    #[inline]
    fn goes_on_after(&self, class: Class) -> bool {
        dispatch!(self, policy => policy.goes_on_after(class))
    }

    #[inline]
    fn is_tied(&self) -> bool {
        dispatch!(self, policy => policy.is_tied())
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}
