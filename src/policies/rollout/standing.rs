//! The theory of dynamic updates: when a service may be updated while requests run, and which version a call goes to.
//!
//! Three criteria, from the strictest to the mildest. All of them speak about *root requests* (a request of the public with
//! everything that is called for it) and about one *target*, the service to be updated.
//!
//! * **Quiescence**: no running request has anything to do with the target, past or to come. Kramer and Magee, "The Evolving
//!   Philosophers Problem: Dynamic Change Management", IEEE TSE 16(11), 1990. It is made to come true: services that call the
//!   target, directly or not, begin nothing new.
//! * **Tranquillity**: the target serves nobody, and no caller of it is in the middle of a transaction in which it called the
//!   target before and may do so again. Vandewoude, Ebraert, Berbers and D'Hondt, "Tranquility: A Low Disruptive Alternative
//!   to Quiescence", IEEE TSE 33(12), 2007. What is called further down is not looked at, which is its hole.
//! * **Freeness**, hence *version consistency*: no root request has used the target and will use it again. Ma, Baresi, Ghezzi,
//!   Panzica La Manna and Lu, "Version-consistent Dynamic Reconfiguration of Component-based Distributed Systems", ESEC/FSE
//!   2011, definitions 3 to 7 and section 4.3 (`VersionConsistencyImpl.readyForUpdate` in brickinwall/conup).
//!
//! The paper keeps dynamic edges: a *future* edge of a root from A to B says that A may still call B for it, a *past* edge that
//! it has done so; while a component runs for a root it has both to itself. A [`Standing`] is what they say about one root and
//! the target, a [`Census`] about all roots.

/// Whether a dynamic edge tells what may come or what has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    /// The source may still call the destination for the root.
    Future,
    /// It has done so.
    Past,
}

/// A dynamic edge of one root request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which.
    pub kind: EdgeKind,
    /// Root request, by number.
    pub root: u32,
    /// Caller.
    pub from: u32,
    /// Callee; the caller itself while it runs for the root.
    pub to: u32,
}

/// What one root request has to do with the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It has used (or is using) the version that is to go.
    pub past: bool,
    /// It may use the target again (or is using it).
    pub future: bool,
}

impl Standing {
    /// Whether an update at this moment would show both versions to the request.
    #[inline]
    pub const fn blocks(self) -> bool {
        self.past && self.future
    }
}

/// What all running requests have to do with the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Root requests that may have to do with the target, or have had.
    pub engaged: u32,
    /// Root requests that have used the old version and may use the target again.
    pub blocking: u32,
    /// Attempts sent to the target that have not ended.
    pub serving: u32,
    /// Callers in a transaction in which they have called the target themselves, and may do so again.
    pub returning: u32,
    /// Callers of the target that do not know an instance of the new version yet.
    pub unaware: u32,
    /// Callers of the target that still know an instance of an old version.
    pub lagging: u32,
    /// Calls between the target and the service farthest from it that depends on it.
    pub depth: u32,
}

impl Census {
    /// What the dynamic edges of all roots say about a set of targets.
    pub fn of_edges(edges: &[Edge], targets: &[u32]) -> Self {
        let entering = || edges.iter().filter(|edge| targets.contains(&edge.to));
        let both = |edge: &&Edge| {
            let other = |other: &Edge| {
                other.kind == EdgeKind::Past
                    && (other.root, other.from, other.to) == (edge.root, edge.from, edge.to)
            };
            edge.kind == EdgeKind::Future && edges.iter().any(other)
        };
        let (mut roots, mut blocking) = (Vec::new(), 0);
        for edge in entering() {
            if !roots.contains(&edge.root) {
                roots.push(edge.root);
                blocking += u32::from(standing(edges, targets, edge.root).blocks());
            }
        }
        let local = |edge: &&Edge| targets.contains(&edge.from);
        Self {
            engaged: roots.len() as u32,
            blocking,
            serving: entering().filter(local).filter(both).count() as u32,
            returning: entering().filter(|edge| !local(edge)).filter(both).count() as u32,
            ..Self::default()
        }
    }
}

/// What the dynamic edges say about one root and a set of targets.
pub fn standing(edges: &[Edge], targets: &[u32], root: u32) -> Standing {
    let enters =
        |kind| edges.iter().any(|edge| edge.kind == kind && edge.root == root && targets.contains(&edge.to));
    Standing { past: enters(EdgeKind::Past), future: enters(EdgeKind::Future) }
}

/// When the target may be updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Nobody has anything to do with it.
    Quiescent,
    /// It is idle, and no caller comes back to it by itself.
    Tranquil,
    /// Nobody who has used it comes back to it.
    Free,
}

impl Criterion {
    /// Whether the target may be updated now.
    pub const fn reached(self, census: &Census) -> bool {
        match self {
            Self::Quiescent => census.engaged == 0,
            Self::Tranquil => census.serving == 0 && census.returning == 0,
            Self::Free => census.blocking == 0,
        }
    }
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To whichever version the balancer picks.
    Any,
    /// To an instance of an old version.
    Old,
    /// To an instance of the new version.
    New,
    /// Nowhere yet.
    Hold,
}

/// How version consistency comes to a free target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Both versions serve: who has used the old one stays with it, everybody else gets the new one.
    #[default]
    ConcurrentVersions,
    /// Who has not used the target yet is held back until nobody stands in the way of the update any more.
    Blocking,
    /// Everybody goes to the old version until by chance nobody stands in the way.
    Waiting,
}

impl Strategy {
    /// Where a call to the target goes until the target is free; `past`, if its root has used the old version.
    #[inline]
    pub const fn way(self, past: bool) -> Way {
        match (self, past) {
            (_, true) | (Self::Waiting, false) => Way::Old,
            (Self::ConcurrentVersions, false) => Way::New,
            (Self::Blocking, false) => Way::Hold,
        }
    }
}

/// A call, as those see it who decide where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// It goes to the target, not only to a service that depends on it.
    pub to_target: bool,
    /// Its root has used the old version of the target.
    pub past: bool,
    /// It begins something new: it comes from a client whose request began after the update was asked for.
    pub begins: bool,
}

/// What an update asks of calls to the target and to everybody who depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stance {
    /// Nothing.
    #[default]
    Open,
    /// The old version serves.
    Old,
    /// The old version serves, and nothing new begins: dependants are passive.
    Passive,
    /// The edges are being set up, and all calls wait for that.
    SetUp,
    /// Until the target is free.
    Until(Strategy),
    /// The new version serves.
    New,
}

impl Stance {
    /// Where a call goes.
    #[inline]
    pub const fn way(self, asking: Asking) -> Way {
        match self {
            Self::SetUp => Way::Hold,
            Self::Passive if asking.begins => Way::Hold,
            _ if !asking.to_target => Way::Any,
            Self::Open => Way::Any,
            Self::Old | Self::Passive => Way::Old,
            Self::Until(strategy) => strategy.way(asking.past),
            Self::New => Way::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Portal (0) calls auth (1), then proc (2), which calls auth again.
    #[test]
    fn the_hole_in_tranquillity() {
        let past = |from, to| Edge { kind: EdgeKind::Past, root: 0, from, to };
        let future = |from, to| Edge { kind: EdgeKind::Future, root: 0, from, to };
        let verdict = |edges: &[Edge]| {
            let census = Census::of_edges(edges, &[1]);
            [Criterion::Quiescent, Criterion::Tranquil, Criterion::Free].map(|which| which.reached(&census))
        };
        // A, before the token is asked for; B, while auth works on it; C, between token and verification; D, after it.
        assert_eq!(verdict(&[future(0, 1), future(0, 2), future(2, 1)]), [false, true, true]);
        assert_eq!(verdict(&[future(1, 1), past(1, 1), future(0, 2), future(2, 1)]), [false, false, false]);
        assert_eq!(verdict(&[past(0, 1), future(2, 1)]), [false, true, false]);
        assert_eq!(verdict(&[past(0, 1), past(2, 1)]), [false, true, true]);
        assert_eq!(verdict(&[]), [true, true, true]);
    }

    #[test]
    fn nothing_new_begins_while_dependants_are_passive() {
        let asking = |to_target, begins| Asking { to_target, past: false, begins };
        assert_eq!(Stance::Passive.way(asking(false, true)), Way::Hold);
        assert_eq!(Stance::Passive.way(asking(false, false)), Way::Any);
        assert_eq!(Stance::Passive.way(asking(true, false)), Way::Old);
    }
}
