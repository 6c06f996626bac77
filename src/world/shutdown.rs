//! An instance is asked to stop: its clients are told, its hook runs, it gets SIGTERM, it ends or is killed.
//!
//! As the kubelet does it (kubernetes/kubernetes v1.28.0, `pkg/kubelet/kuberuntime/kuberuntime_container.go`, `killContainer`
//! and `executePreStopHook`): the hook runs before SIGTERM and takes its time from the grace period, in whole seconds; it is
//! waited for no longer than that period, without which it does not run at all; at least two seconds are left between
//! SIGTERM and the kill. Meanwhile, not before and not after, the endpoint is withdrawn, and each client hears of that in
//! its own time.

use crate::kernel::queue::Queue;
use crate::time::{Duration, Time};

use super::control::Control;
use super::discovery::News;
use super::instance::State;
use super::spec::OnTerm;
use super::{Flow, World};

/// Between SIGTERM and the kill after a hook, at least (`minimumGracePeriodInSeconds`).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// What is counted about the instances of a service that were asked to stop, in the counted part.
#[derive(Clone, Copy, Default)]
pub(super) struct ShutdownCounts {
    /// How many were asked, in the whole run.
    pub(super) asked: u64,
    /// Attempts and connections that came when it was too late.
    pub(super) refused: u64,
    /// Attempts that were inside when the process ended.
    pub(super) cut_off: u64,
}

impl World<'_> {
    /// An instance is to go, within its grace period.
    pub(super) fn shut_down(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        self.shut_down_within(now, queue, index, Duration::MAX)
    }

    /// The same where it may not take longer than `most`.
    pub(super) fn shut_down_within(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        most: Duration,
    ) -> Flow {
        let instance = &mut self.instances[index as usize];
        match instance.state {
            State::Pending | State::Starting => return self.kill(now, queue, index, false),
            State::Dead => return Ok(()),
            State::Ready | State::Draining if instance.more.leaving => return Ok(()),
            // Draining, too, if a probe has failed and its process was to be started anew.
            State::Ready | State::Draining => {}
        }
        let service = instance.service;
        let spec = &self.spec.services[service as usize];
        let grace = spec.grace.min(most);
        let closed = instance.state == State::Draining;
        let hook = if closed { Duration::ZERO } else { spec.pre_stop.min(grace) };
        if hook == Duration::ZERO && spec.on_term == OnTerm::Close(Duration::ZERO) {
            instance.state = State::Draining;
        }
        instance.more.leaving = true;
        instance.more.ready_changed = Some(now);
        instance.more.told_at = now;
        self.services[service as usize].shutdowns.asked += 1;
        self.log_instance(now, index, "draining");
        self.withdraw(now, queue, index, News::Goodbye);
        if hook == Duration::ZERO {
            return self.terminate(now, queue, index, now, grace);
        }
        let whole = Duration::from_secs(hook.0 / 1_000_000_000);
        let left = (grace - whole).max(LEAST_GRACE);
        self.schedule(queue, now + hook, Control::Terminate { instance: index, told_at: now, left });
        Ok(())
    }

    /// SIGTERM for an instance that was told to stop at `told_at`; it has `left` until it is killed.
    pub(super) fn terminate(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        told_at: Time,
        left: Duration,
    ) -> Flow {
        let instance = &self.instances[index as usize];
        if !instance.is_stopping(told_at) {
            return Ok(());
        }
        let service = instance.service;
        self.resign(now, queue, index)?;
        if !self.instances[index as usize].is_stopping(told_at) {
            return Ok(());
        }
        let instance = &self.instances[index as usize];
        match self.spec.services[service as usize].on_term {
            OnTerm::Exit => return self.drained(now, queue, index),
            OnTerm::Close(lame_duck) if lame_duck == Duration::ZERO || instance.state == State::Draining => {
                self.close_door(now, queue, index, told_at)?;
                if !self.instances[index as usize].is_stopping(told_at) {
                    return Ok(());
                }
            }
            OnTerm::Close(lame_duck) => self.schedule(queue, now + lame_duck, Control::Close(index, told_at)),
            OnTerm::Ignore => {}
        }
        self.schedule(queue, now + left, Control::Kill(index, told_at));
        Ok(())
    }

    /// An instance that was told to stop takes nothing new; it ends with what it has.
    pub(super) fn close_door(&mut self, now: Time, queue: &mut Queue, index: u32, told_at: Time) -> Flow {
        let instance = &mut self.instances[index as usize];
        if !instance.is_stopping(told_at) {
            return Ok(());
        }
        instance.state = State::Draining;
        let idle = instance.inside == 0 && instance.queued == 0;
        self.drain_connections(now, queue, index);
        if idle { self.emptied(now, queue, index) } else { Ok(()) }
    }

    /// SIGKILL, if it has not done with its work in time.
    pub(super) fn grace_over(&mut self, now: Time, queue: &mut Queue, index: u32, told_at: Time) -> Flow {
        if self.instances[index as usize].is_stopping(told_at) {
            return self.drained(now, queue, index);
        }
        Ok(())
    }

    /// Somebody comes to an instance that takes nothing any more.
    #[cold]
    pub(super) fn note_too_late(&mut self, now: Time, index: u32) {
        let instance = &self.instances[index as usize];
        if instance.more.leaving && !instance.silent && self.counts_at(now) {
            self.services[instance.service as usize].shutdowns.refused += 1;
        }
    }
}
