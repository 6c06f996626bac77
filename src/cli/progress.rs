//! The progress bar: share of the simulated time over all runs, speed, time left. On stderr, and only on a terminal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::lab::Progress;
use crate::report::quantity;

/// Runs `work` while a second thread shows how far it is, if `visible`.
pub(super) fn shown<T>(progress: &Progress, visible: bool, work: impl FnOnce() -> T) -> T {
    if !visible {
        return work();
    }
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(progress, &finished));
        // The bar must end even when the work panics, or the scope would wait for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        finished.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn watch(progress: &Progress, finished: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").expect("the template is well-formed");
    bar.set_style(style.progress_chars("━╸ "));
    let start = now();
    while !finished.load(Ordering::Relaxed) {
        let done = progress.done_ns.load(Ordering::Relaxed) as f64;
        let share = (done / progress.total_ns.load(Ordering::Relaxed).max(1) as f64).min(1.0);
        let passed = start.elapsed().as_secs_f64();
        let speed = progress.requests.load(Ordering::Relaxed) as f64 / passed.max(0.001);
        bar.set_position((share * STEPS as f64) as u64);
        let left = if share > 0.0 { left_words(passed * (1.0 - share) / share) } else { String::new() };
        let stopping =
            if progress.cancelled.load(Ordering::Relaxed) { "  stopping; Ctrl-C again to abort" } else { "" };
        bar.set_message(format!("{} requests/s{left}{stopping}", quantity::si(speed.round())));
        thread::park_timeout(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}

fn left_words(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds / 60 {
        0 => format!("  {seconds} s left"),
        minutes => format!("  {minutes} min {:02} s left", seconds % 60),
    }
}

/// The real clock. Nothing it says ever reaches a result.
#[expect(
    clippy::disallowed_methods,
    reason = "progress and timings are about the machine's time, not the model's"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Resolution of the bar.
const STEPS: u64 = 1000;
