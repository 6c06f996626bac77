//! What `simlab calibrate` says: the fits with their errors, and a scenario that has them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::quantity;
use crate::lab::calibrate::Calibration;
use crate::stats::fit::Shape;

/// Above this the lower end of the index of dispersion is burstier than Poisson.
const BURSTY: f64 = 1.2;

/// Above this index it is the rate itself that jumps from row to row, which no law of gaps says.
const JUMPING: f64 = 16.0;

/// The report, ending with one sentence about the held-out part.
pub fn report(found: &Calibration) -> String {
    let mut text = String::new();
    let mut say = |head: &str, words: String| {
        let _ = writeln!(text, "{head:<10}{words}");
    };
    say(
        "work",
        match found.utilization_law {
            Some(law) => format!(
                "{} of a core per request (cores in use = {} + rate x work, R² {:.3})",
                quantity::millis(found.work * 1e3),
                quantity::short(law.intercept),
                law.r2
            ),
            None => format!(
                "{} of a core per request (from the bend of the latency)",
                quantity::millis(found.work * 1e3)
            ),
        },
    );
    let shapes: Vec<String> = found
        .shapes
        .iter()
        .map(|(shape, cv, wait, error)| {
            let wait =
                if *wait > 0.0 { format!(" + {}", quantity::millis(wait * 1e3)) } else { String::new() };
            format!("{}{wait} {:.1} %", named(*shape, *cv), error * 100.0)
        })
        .collect();
    let distance = found.distance.map_or_else(String::new, |distance| {
        format!("; largest distance to the histogram {:.1} %", distance * 100.0)
    });
    say("shape", format!("{}{distance}", named(found.shape, found.cv)));
    if !shapes.is_empty() {
        say("", format!("off its quantiles by: {}", shapes.join(", ")));
    }
    say("wait", format!("{} that needs no core", quantity::millis(found.wait * 1e3)));
    say(
        "capacity",
        format!(
            "{} per instance, {} requests/s when full; the busiest moment was at {:.0} %",
            if found.cores == 1 { "1 core".to_owned() } else { format!("{} cores", found.cores) },
            quantity::short(f64::from(found.cores) / found.work),
            found.busiest * 100.0
        ),
    );
    say(
        "arrivals",
        match found.dispersion {
            None => "Poisson, for lack of counts that could tell".to_owned(),
            Some((mean, lo, hi)) => {
                let word = match () {
                    () if mean > JUMPING => "a rate that jumps from row to row; replay it",
                    () if lo > BURSTY => "burstier than Poisson",
                    () => "as Poisson",
                };
                format!("{word} (index of dispersion {mean:.2}, 95 % interval {lo:.2} to {hi:.2})")
            }
        },
    );
    let _ = writeln!(text, "\nmedian error      first 75 % of the time  last 25 %, held out");
    for (what, training, held_out) in &found.errors {
        let _ = writeln!(text, "{what:<18}{:>20.1} %{:>21.1} %", training * 100.0, held_out * 100.0);
    }
    text
}

/// One sentence.
pub fn verdict(found: &Calibration) -> String {
    let worst = found.errors.iter().max_by(|a, b| a.2.total_cmp(&b.2));
    match worst {
        Some((what, _, error)) if found.errors.len() > 1 => format!(
            "On the quarter that was held out, everything is predicted to within {:.0} % in half of the moments ({what} is the worst).",
            (error * 100.0).ceil()
        ),
        Some((what, _, error)) => format!(
            "On the quarter that was held out, {what} is predicted to within {:.0} % in half of the moments.",
            (error * 100.0).ceil()
        ),
        None => "There was nothing to predict.".to_owned(),
    }
}

/// The same as one JSON document.
pub fn json(found: &Calibration, scenario: &str) -> Value {
    json!({
        "work_ms": found.work * 1e3,
        "idle_cores": found.utilization_law.map(|law| law.intercept),
        "utilization_law_r2": found.utilization_law.map(|law| law.r2),
        "wait_ms": found.wait * 1e3,
        "cores": found.cores,
        "busiest": found.busiest,
        "shape": named(found.shape, found.cv),
        "distance": found.distance,
        "dispersion": found.dispersion.map(|(mean, lo, hi)| json!({"mean": mean, "lo": lo, "hi": hi})),
        "errors": found.errors.iter().map(|(what, training, held_out)| {
            json!({"what": what, "training": training, "held_out": held_out})
        }).collect::<Vec<_>>(),
        "warnings": found.warnings,
        "verdict": verdict(found),
        "scenario": scenario,
    })
}

/// A scenario that has these laws. `load` is the data file of its profile, or the mean rate if there is none.
pub fn scenario(found: &Calibration, replicas: u32, length_s: f64, load: Result<&str, f64>) -> String {
    let law = match found.shape {
        Shape::Exponential => format!("exp({})", millis(found.work)),
        Shape::Lognormal => format!("lognormal({}, cv={:.3})", millis(found.work), found.cv),
        Shape::Gamma => format!("gamma({}, cv={:.3})", millis(found.work), found.cv),
    };
    let wait = if found.wait > 0.0 { format!("\"wait {}\", ", millis(found.wait)) } else { String::new() };
    let arrivals = match load {
        Ok(file) => format!("arrivals.poisson = {{ profile = \"file({file}:request)\" }}"),
        Err(rate) => match found.dispersion {
            Some((mean, lo, _)) if lo > BURSTY && mean <= JUMPING => format!(
                "arrivals.renewal = {{ gap = \"gamma({}, cv={:.3})\" }}   # burstier than Poisson",
                millis(1.0 / rate),
                libm::sqrt(mean)
            ),
            _ => format!("arrivals.poisson = {{ rate = \"{rate:.3}/s\" }}"),
        },
    };
    format!(
        "# Written by `simlab calibrate`: laws that fit what was measured. Deadlines, queues and starts were not measured.\n\
         [scenario]\nname = \"calibrated\"\nduration = \"{length_s:.0}s\"\nwarm-up = \"{:.0}s\"\n\n\
         [[service]]\nname = \"service\"\nreplicas = {replicas}\n\
         instance = {{ cores = {}, workers = \"unlimited\" }}\n\
         [[service.endpoint]]\nname = \"request\"\nsteps = [{wait}\"cpu {law}\"]\n\n\
         [[source]]\nname = \"load\"\nto = \"service.request\"\n{arrivals}\n",
        (length_s / 10.0).floor().min(600.0),
        found.cores,
    )
}

fn named(shape: Shape, cv: f64) -> String {
    match shape {
        Shape::Exponential => "exponential".to_owned(),
        Shape::Lognormal => format!("lognormal (cv {cv:.2})"),
        Shape::Gamma => format!("gamma (cv {cv:.2})"),
    }
}

/// Seconds as a quantity of scenarios.
fn millis(seconds: f64) -> String {
    let text = format!("{:.4}", seconds * 1e3);
    format!("{}ms", text.trim_end_matches('0').trim_end_matches('.'))
}
