//! Transactions: all or nothing, and who has to wait for it.

use crate::story::{Told, tell};

/// An order that reserves stock and charges an account: `protocol`, what its participants say beside their endpoints, the
/// coordinators, and more.
fn order(duration: &str, protocol: &str, participant: &str, coordinator: &str, more: &str) -> Told {
    let service = |name: &str, prepare: &str, work: &str| {
        format!(
            "[[service]]
name = \"{name}\"
instance = {{ mode = \"async\", start = \"20s\" }}
[[service.endpoint]]
name = \"{prepare}\"
steps = [\"wait {work}\"]
[[service.endpoint]]
name = \"confirm\"
steps = [\"wait 50ms\"]
[[service.endpoint]]
name = \"undo\"
steps = [\"wait 30ms\"]
"
        )
    };
    let pay_work = if more.contains("# slow payment") { "10s" } else { "100ms" };
    let text = format!(
        "{}{}
[[service]]
name = \"order\"
{coordinator}
[[service.endpoint]]
name = \"place\"
steps = [\"transaction checkout\"]

[[transaction]]
name = \"checkout\"
log = \"10ms\"
{protocol}
participant = [
  {{ prepare = \"stock.reserve\", commit = \"stock.confirm\", abort = \"stock.undo\", rows = 1{participant} }},
  {{ prepare = \"pay.charge\", commit = \"pay.confirm\", abort = \"pay.undo\", rows = 1{participant} }},
]
{more}",
        service("stock", "reserve", "100ms"),
        service("pay", "charge", pay_work),
    );
    tell(duration, &text)
}

/// Requests at 1 s, and at 5 s if there are two.
fn requests(two: bool) -> &'static str {
    if two {
        "[[source]]\nname = \"users\"\nto = \"order.place\"\narrivals.deterministic = { profile = \"steps(0s: 1/s, 1.5s: 0/s, 4.5s: 1/s, 5.2s: 0/s)\" }\n"
    } else {
        "[[source]]\nname = \"users\"\nto = \"order.place\"\narrivals.deterministic = { profile = \"steps(0s: 1/s, 1.5s: 0/s)\" }\n"
    }
}

const ONE: &str = "instance = { mode = \"async\", start = \"20s\" }";
const TWO: &str = "replicas = 2\ninstance = { mode = \"async\", start = \"20s\" }";

fn with_crash(point: &str, more: &str) -> String {
    format!(
        "{more}[[fault]]\nat = \"0s\"\ncrash-coordinator = {{ transaction = \"checkout\", point = \"{point}\" }}\n"
    )
}

/// Both prepare for 100 ms and log for 10; the coordinator logs for 10, and then the answer goes out. The participants confirm
/// for 50 ms and log that for 10: 70 ms after their yes they are out of doubt.
#[test]
fn two_phases() {
    let told = order("30s", "two-phase-commit = {}", "", ONE, requests(false));
    told.is("transaction.checkout.begun", 1.0);
    told.is("transaction.checkout.committed", 1.0);
    told.is("latency_mean_ms", 120.0);
    told.is("transaction.checkout.in_doubt_max_s", 0.07);
    for nothing in ["aborted", "unfinished", "in_doubt", "lock_timeouts", "recovered", "heuristic"] {
        told.is(&format!("transaction.checkout.{nothing}"), 0.0);
    }
    let told = order("30s", "two-phase-commit = { presumption = \"nothing\" }", "", ONE, requests(false));
    told.is("latency_mean_ms", 130.0);
}

/// Both have said yes at 1.11 s, and the coordinator dies. Its instance is back at 21.11 s, and nothing is in its log: whoever asks is
/// told that it has aborted. The participants ask every 3 s, the last time at 22.11 s.
#[test]
fn in_doubt_until_the_coordinator_is_back() {
    let protocol = "two-phase-commit = { inquire-after = \"3s\", vote-timeout = \"60s\" }";
    let told = order("60s", protocol, "", ONE, &with_crash("voted", requests(false)));
    told.is("transaction.checkout.in_doubt", 2.0);
    told.is("transaction.checkout.in_doubt_max_s", 21.0);
    told.is("transaction.checkout.aborted", 1.0);
    told.is("transaction.checkout.recovered", 1.0);
    told.is("availability", 0.0);
}

/// The other coordinator lives, and its transaction wants the same rows: it waits from 5 s to 22.11 s, and then takes 120 ms.
#[test]
fn a_dead_coordinator_blocks_others() {
    let protocol = "two-phase-commit = { inquire-after = \"3s\", vote-timeout = \"60s\" }";
    let told = order("60s", protocol, "", TWO, &with_crash("voted", requests(true)));
    told.is("transaction.checkout.committed", 1.0);
    told.is("transaction.checkout.aborted", 1.0);
    told.is("transaction.checkout.lock_wait_max_s", 17.11);
    told.is("latency_mean_ms", 17_230.0);
    // With patience for 2 s it fails instead.
    let told = order("60s", protocol, ", lock-timeout = \"2s\"", TWO, &with_crash("voted", requests(true)));
    told.is("transaction.checkout.lock_timeouts", 2.0);
    told.is("transaction.checkout.aborted", 2.0);
    told.is("transaction.checkout.lock_wait_max_s", 2.0);
}

/// The decision is in the log at 1.12 s, and then the coordinator dies: at 21.12 s it tells everybody, who has then confirmed and
/// logged by 21.18 s.
#[test]
fn what_was_decided_stays_decided() {
    let protocol = "two-phase-commit = { inquire-after = \"60s\" }";
    let told = order("60s", protocol, "", ONE, &with_crash("decided", requests(false)));
    told.is("transaction.checkout.committed", 1.0);
    told.is("transaction.checkout.in_doubt_max_s", 20.07);
    // Whoever ordered does not know.
    told.is("availability", 0.0);
}

/// The stock says yes at 1.11 s and asks at 4.11 s. The coordinator has died at 2 s, while the payment is still being made: it
/// will not say yes any more, and both abort.
#[test]
fn participants_help_each_other() {
    let more = format!(
        "# slow payment\n{}[[fault]]\nat = \"2s\"\ncrash = {{ service = \"order\" }}\n",
        requests(false)
    );
    let with = |cooperative: bool| {
        let protocol = format!(
            "two-phase-commit = {{ inquire-after = \"3s\", vote-timeout = \"60s\", cooperative = {cooperative} }}"
        );
        let told = order("60s", &protocol, "", ONE, &more);
        told.is("transaction.checkout.aborted", 1.0);
        told.metric("transaction.checkout.in_doubt_max_s")
    };
    assert!((with(true) - 3.0).abs() < 1e-9);
    // The instance is back at 22 s, and the stock asks at 22.11 s; the payment, which said yes at 11.11 s, at 23.11 s.
    assert!((with(false) - 21.0).abs() < 1e-9);
}

/// After 2 s in doubt both make their part last. The coordinator, back at 21.12 s, has to abort and finds out.
#[test]
fn whoever_guesses_may_guess_wrong() {
    let protocol =
        "two-phase-commit = { presumption = \"nothing\", heuristic-after = \"2s\", heuristic = \"commit\" }";
    let told = order("60s", protocol, "", ONE, &with_crash("voted", requests(false)));
    told.is("transaction.checkout.heuristic", 2.0);
    told.is("transaction.checkout.heuristic_damage", 2.0);
    told.is("transaction.checkout.in_doubt_max_s", 2.0);
    told.is("transaction.checkout.aborted", 1.0);
}

/// The beginning is logged (10 ms), both parts one after the other with 110 ms each and 10 ms of the coordinator's log, then the end.
#[test]
fn a_saga_goes_through() {
    let told = order("30s", "saga = {}", "", ONE, requests(false));
    told.is("transaction.checkout.committed", 1.0);
    told.is("latency_mean_ms", 260.0);
    told.is("transaction.checkout.compensated", 0.0);
    told.is("transaction.checkout.in_doubt_max_s", 0.0);
}

/// The payment always fails: the stock is put back, once.
#[test]
fn a_saga_goes_back() {
    let more = format!(
        "{}[[fault]]\nat = \"0s\"\nerror-rate = {{ service = \"pay\", rate = \"100%\", for = \"1.5s\" }}\n",
        requests(false)
    );
    let told = order("30s", "saga = {}", "", ONE, &more);
    told.is("transaction.checkout.aborted", 1.0);
    told.is("transaction.checkout.compensated", 1.0);
    told.is("transaction.checkout.stuck", 0.0);
    // Under two-phase commit nothing has to be put back.
    let told = order("30s", "two-phase-commit = {}", "", ONE, &more);
    told.is("transaction.checkout.aborted", 1.0);
    told.is("transaction.checkout.compensated", 0.0);
}

/// A saga whose coordinator dies at its end has done everything, and its log says so.
#[test]
fn a_saga_is_recovered() {
    let told = order("60s", "saga = {}", "", TWO, &with_crash("voted", requests(true)));
    told.is("transaction.checkout.committed", 2.0);
    told.is("transaction.checkout.recovered", 1.0);
    // Rows are free as soon as a part is done: nobody is blocked.
    told.is("transaction.checkout.lock_wait_max_s", 0.0);
    told.is("latency_mean_ms", 260.0);
}

/// In the middle of its second part, at 1.2 s, it dies; the stock is put back and the payment refused or undone.
#[test]
fn a_saga_that_lost_its_coordinator_goes_back_or_on() {
    let more = format!("{}[[fault]]\nat = \"1.2s\"\ncrash = {{ service = \"order\" }}\n", requests(false));
    let told = order("60s", "saga = {}", "", ONE, &more);
    told.is("transaction.checkout.aborted", 1.0);
    told.is("transaction.checkout.compensated", 2.0);
    let told = order("60s", "saga = { recovery = \"forward\" }", "", ONE, &more);
    told.is("transaction.checkout.committed", 1.0);
    told.is("transaction.checkout.compensated", 0.0);
}
