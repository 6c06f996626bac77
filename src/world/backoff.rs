//! How long the kubelet waits before it starts a container again (`flowcontrol.Backoff`, `CrashLoopBackOff`).

use crate::time::{Duration, Time};

/// The first restart after a kill is at once; then the kubelet waits so long, twice as long each time ...
const FIRST_BACKOFF: Duration = Duration::from_secs(10);

/// ... up to this (`MaxContainerBackOff`). A process that ran for twice that long starts afresh.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// What the kubelet remembers of the containers before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    /// What it waits before the next restart, and since when it has known that.
    next: Duration,
    noted: Option<Time>,
}

impl Backoff {
    /// How long it waits now.
    pub(super) fn wait(&mut self, now: Time) -> Duration {
        let fresh = self.noted.is_none_or(|noted| now - noted > LONGEST_BACKOFF * 2);
        let wait = if fresh { Duration::ZERO } else { self.next };
        self.next = if fresh { FIRST_BACKOFF } else { (self.next * 2).min(LONGEST_BACKOFF) };
        self.noted = Some(now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_waits_longer_each_time_and_forgets_after_ten_minutes() {
        let mut backoff = Backoff::default();
        let mut now = Time::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = backoff.wait(now);
            waits.push(wait.as_secs_f64());
            // It runs for a minute and is killed again.
            now = now + wait + Duration::from_secs(60);
        }
        assert_eq!(waits, [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]);
        assert_eq!(backoff.wait(now + Duration::from_secs(700)), Duration::ZERO);
    }
}
