//! Raft's election as etcd runs it: randomised timeouts, terms, one vote per term, and a leader that counts who hears it.
//!
//! ## What it does
//! Time goes in ticks of `heartbeat-interval`. A follower that has heard no leader for `et` .. 2 `et` - 1 ticks, drawn anew in
//! each term, stands for election; `et` is `election-timeout` in ticks. With `pre-vote` it first asks, without raising its
//! term, whether it would win. A member votes once per term, and only for a candidate whose log is at least as complete as its
//! own. With `check-quorum` a leader that has not heard a majority within `et` ticks steps down, and followers of a living
//! leader ignore candidates.
//!
//! ## When it helps
//! Automatic failover within one to two election timeouts, and never a leader that lacks an acknowledged write, if writes are
//! acknowledged by a majority.
//!
//! ## How it fails
//! Without a majority there is no leader. A timeout that is short against the network's delays elects without need. Without
//! `check-quorum` a leader on the minority's side goes on believing for as long as the partition lasts; without `pre-vote` a
//! member that comes back with a higher term turns the leader out.
//!
//! ## Settings
//! Names and defaults of etcd.
//! * `heartbeat-interval` (`100ms`), `election-timeout` (`1000ms`; at least five intervals, at most 50 s).
//! * `pre-vote` (true), `check-quorum` (true; etcd always has it).
//!
//! ## Origin
//! etcd-io/raft, `raft.go` (`tickElection`, `tickHeartbeat`, `pastElectionTimeout`, `resetRandomizedElectionTimeout`, `Step`,
//! `stepLeader`, `stepCandidate`, `stepFollower`, `campaign`, `becomeFollower`, `reset`), read in public copies of versions 3.4
//! to 3.6 that agree in these functions; etcd-io/etcd `embed/config.go` (`Validate`) for the limits, from memory. There are no
//! recorded cases; its properties are tests.
//!
//! ## Deliberate differences
//! * Only the election: entries travel in the world. A leader's first append is a heartbeat here.
//! * Fixed membership, no learners, no transfer of leadership when a leader is shut down, no `initial-election-tick-advance`.
//! * A member that is not eligible is not `promotable`, as one that waits for a snapshot is upstream.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Election, Envelope, From, LogEnd, Place, Seat, Standing, To};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `election.raft`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct RaftSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "RaftSettings")]
struct Written {
    /// Time between two heartbeats of a leader; also the tick of the clock.
    heartbeat_interval: Duration,
    /// Shortest silence after which a follower stands for election.
    election_timeout: Duration,
    /// Ask before raising the term.
    pre_vote: bool,
    /// A leader that does not hear a majority steps down.
    check_quorum: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            check_quorum: true,
        }
    }
}

/// Longest election timeout (`maxElectionMs`).
const MOST_TIMEOUT: Duration = Duration::from_secs(50);

impl TryFrom<Written> for RaftSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { heartbeat_interval, election_timeout, .. } = written;
        if heartbeat_interval < Duration::from_millis(1) {
            return Err("heartbeat-interval must be at least 1 ms".to_owned());
        }
        if heartbeat_interval * 5 > election_timeout {
            let rule = "election-timeout should be at least 5 times heartbeat-interval (etcd's Validate)";
            return Err(rule.to_owned());
        }
        if election_timeout > MOST_TIMEOUT {
            return Err("election-timeout must be at most 50 s (etcd's Validate)".to_owned());
        }
        Ok(Self(written))
    }
}

/// What members say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    kind: MessageType,
    term: u64,
    /// The end of the candidate's log.
    log: LogEnd,
    reject: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageType {
    PreVote,
    PreVoteResp,
    Vote,
    VoteResp,
    Heartbeat,
    HeartbeatResp,
    /// Tells a leader of an older term that its time is over.
    AppResp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Raft {
    tick: Duration,
    /// In ticks.
    election_timeout: u64,
    pre_vote: bool,
    check_quorum: bool,
    place: Place,
    term: u64,
    vote: Option<Seat>,
    lead: Option<Seat>,
    state: State,
    /// When tick 0 was.
    origin: Time,
    /// Tick at which its election timer was last set to zero.
    election_reset: u64,
    randomized_election_timeout: u64,
    /// Tick before which it does not look at its election timer again.
    next_look: u64,
    /// Tick of the last heartbeat it sent.
    heartbeat_reset: u64,
    /// By seat: who voted for it.
    granted: u64,
    /// By seat: who did not.
    rejected: u64,
    /// By seat: who has answered the leader since it last looked.
    recent_active: u64,
}

impl Algorithm for Raft {
    type Settings = RaftSettings;

    fn new(settings: &RaftSettings, now: Time) -> Self {
        let Written { heartbeat_interval, election_timeout, pre_vote, check_quorum } = settings.0;
        Self {
            tick: heartbeat_interval,
            election_timeout: election_timeout.0 / heartbeat_interval.0,
            pre_vote,
            check_quorum,
            place: Place { me: Seat(0), seats: 1 },
            term: 0,
            vote: None,
            lead: None,
            state: State::Off,
            origin: now,
            election_reset: 0,
            randomized_election_timeout: 0,
            next_look: 0,
            heartbeat_reset: 0,
            granted: 0,
            rejected: 0,
            recent_active: 0,
        }
    }
}

/// Outcome of a count of votes.
enum Tally {
    Pending,
    Won,
    Lost,
}

impl Raft {
    fn ticks(&self, now: Time) -> u64 {
        (now - self.origin).0 / self.tick.0
    }

    fn election_elapsed(&self, now: Time) -> u64 {
        self.ticks(now) - self.election_reset
    }

    fn reset(&mut self, now: Time, term: u64, rng: &mut Rng) {
        if self.term != term {
            self.term = term;
            self.vote = None;
        }
        self.lead = None;
        self.election_reset = self.ticks(now);
        self.heartbeat_reset = self.election_reset;
        self.randomized_election_timeout =
            self.election_timeout + u64::from(rng.index(self.election_timeout as u32));
        self.reset_votes();
        self.recent_active = 0;
    }

    fn reset_votes(&mut self) {
        self.granted = 0;
        self.rejected = 0;
    }

    fn become_follower(&mut self, now: Time, term: u64, lead: Option<Seat>, rng: &mut Rng) {
        self.reset(now, term, rng);
        self.lead = lead;
        self.state = State::Follower;
    }

    fn campaign(&mut self, now: Time, pre: bool, log: LogEnd, rng: &mut Rng, out: &mut Vec<Envelope>) {
        let (kind, term) = if pre {
            self.reset_votes();
            self.lead = None;
            self.state = State::PreCandidate;
            (MessageType::PreVote, self.term + 1)
        } else {
            self.reset(now, self.term + 1, rng);
            self.vote = Some(self.place.me);
            self.state = State::Candidate;
            (MessageType::Vote, self.term)
        };
        // Its own vote; a group of one has won with it.
        self.poll(self.place.me, true);
        self.send(To::Others, kind, term, log, false, out);
        self.count(now, log, rng, out);
    }

    fn poll(&mut self, from: Seat, granted: bool) {
        let bit = 1 << from.0;
        if (self.granted | self.rejected) & bit == 0 {
            *(if granted { &mut self.granted } else { &mut self.rejected }) |= bit;
        }
    }

    const fn tally(&self) -> Tally {
        let majority = self.place.majority();
        if self.granted.count_ones() >= majority {
            Tally::Won
        } else if self.place.seats - self.rejected.count_ones() < majority {
            Tally::Lost
        } else {
            Tally::Pending
        }
    }

    /// What follows from the votes so far.
    fn count(&mut self, now: Time, log: LogEnd, rng: &mut Rng, out: &mut Vec<Envelope>) {
        match self.tally() {
            Tally::Pending => {}
            Tally::Won if self.state == State::PreCandidate => self.campaign(now, false, log, rng, out),
            Tally::Won => {
                self.reset(now, self.term, rng);
                self.lead = Some(self.place.me);
                self.state = State::Leader;
                self.send(To::Others, MessageType::Heartbeat, self.term, log, false, out);
            }
            Tally::Lost => self.become_follower(now, self.term, None, rng),
        }
    }

    #[expect(clippy::unused_self, reason = "reads like upstream's")]
    fn send(&self, to: To, kind: MessageType, term: u64, log: LogEnd, reject: bool, out: &mut Vec<Envelope>) {
        out.push(Envelope { to, message: super::Message::Raft(Message { kind, term, log, reject }) });
    }

    /// What a message of another term means before it is read. Whether to read on.
    fn settle_term(
        &mut self,
        now: Time,
        from: Seat,
        message: &Message,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) -> bool {
        use MessageType::{Heartbeat, PreVote, PreVoteResp, Vote};
        let Message { kind, term, log, reject } = *message;
        if term > self.term {
            if matches!(kind, Vote | PreVote) {
                let in_lease = self.check_quorum
                    && self.lead.is_some()
                    && self.election_elapsed(now) < self.election_timeout;
                if in_lease {
                    return false;
                }
            }
            match kind {
                // A term of the future, which nobody has yet.
                PreVote => {}
                PreVoteResp if !reject => {}
                Heartbeat => self.become_follower(now, term, Some(from), rng),
                _ => self.become_follower(now, term, None, rng),
            }
        } else if term < self.term {
            let to = To::Member(from);
            if kind == Heartbeat && (self.check_quorum || self.pre_vote) {
                self.send(to, MessageType::AppResp, self.term, log, false, out);
            } else if kind == PreVote {
                self.send(to, PreVoteResp, self.term, log, true, out);
            }
            return false;
        }
        true
    }
}

impl Election for Raft {
    fn on_start(
        &mut self,
        now: Time,
        place: Place,
        _standing: Standing,
        rng: &mut Rng,
        _out: &mut Vec<Envelope>,
    ) {
        self.place = place;
        self.origin = now;
        self.next_look = 0;
        self.become_follower(now, self.term, None, rng);
    }

    fn on_message(
        &mut self,
        now: Time,
        from: From,
        message: &super::Message,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        use MessageType::{AppResp, Heartbeat, HeartbeatResp, PreVote, PreVoteResp, Vote, VoteResp};
        let (super::Message::Raft(message), From::Member(from)) = (message, from) else { return };
        if self.state == State::Off || !self.settle_term(now, from, message, rng, out) {
            return;
        }
        let Message { kind, term, log, reject } = *message;
        match (kind, self.state) {
            (Vote | PreVote, _) => {
                let can_vote = self.vote == Some(from)
                    || self.vote.is_none() && self.lead.is_none()
                    || kind == PreVote && term > self.term;
                let grants = can_vote && log >= standing.log;
                let resp = if kind == Vote { VoteResp } else { PreVoteResp };
                let said = if grants { term } else { self.term };
                self.send(To::Member(from), resp, said, standing.log, !grants, out);
                if grants && kind == Vote {
                    self.election_reset = self.ticks(now);
                    self.vote = Some(from);
                }
            }
            (PreVoteResp, State::PreCandidate) | (VoteResp, State::Candidate) => {
                self.poll(from, !reject);
                self.count(now, standing.log, rng, out);
            }
            (Heartbeat, State::Follower | State::PreCandidate | State::Candidate) => {
                if self.state == State::Follower {
                    self.election_reset = self.ticks(now);
                    self.lead = Some(from);
                } else {
                    self.become_follower(now, term, Some(from), rng);
                }
                self.send(To::Member(from), HeartbeatResp, self.term, standing.log, false, out);
            }
            (HeartbeatResp | AppResp, State::Leader) => self.recent_active |= 1 << from.0,
            _ => {}
        }
    }

    fn on_wakeup(&mut self, now: Time, standing: Standing, rng: &mut Rng, out: &mut Vec<Envelope>) {
        match self.state {
            State::Off => {}
            State::Leader => {
                if self.election_elapsed(now) >= self.election_timeout {
                    self.election_reset = self.ticks(now);
                    if self.check_quorum {
                        let active = (self.recent_active | 1 << self.place.me.0).count_ones();
                        if active < self.place.majority() {
                            return self.become_follower(now, self.term, None, rng);
                        }
                        self.recent_active = 0;
                    }
                }
                if self.ticks(now) > self.heartbeat_reset {
                    self.heartbeat_reset = self.ticks(now);
                    self.send(To::Others, MessageType::Heartbeat, self.term, standing.log, false, out);
                }
            }
            _ => {
                if self.election_elapsed(now) < self.randomized_election_timeout {
                    return;
                }
                if standing.eligible {
                    self.election_reset = self.ticks(now);
                    self.campaign(now, self.pre_vote, standing.log, rng, out);
                } else {
                    // Who is not promotable lets its timer run on and looks at it with every tick.
                    self.next_look = self.ticks(now) + 1;
                }
            }
        }
    }

    fn on_shutdown(&mut self, _now: Time, _out: &mut Vec<Envelope>) {
        self.state = State::Off;
        self.lead = None;
    }

    fn next_wakeup(&self) -> Option<Time> {
        let tick = match self.state {
            State::Off => return None,
            State::Leader => self.heartbeat_reset + 1,
            _ => (self.election_reset + self.randomized_election_timeout).max(self.next_look),
        };
        Some(self.origin + self.tick * tick)
    }

    fn is_leader(&self) -> bool {
        self.state == State::Leader
    }

    fn term(&self) -> u64 {
        self.term
    }
}
