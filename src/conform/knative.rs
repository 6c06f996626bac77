//! Adapters for the vectors of the Knative pod autoscaler.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_AUTOSCALER, close, field, integer, list, number, same, text, verdict};
use crate::policies::autoscaler::kpa::KpaSettings;
use crate::policies::autoscaler::kpa::decider::{Decider, DeciderSpec, ScaleResult};
use crate::policies::autoscaler::kpa::delay::DelayWindow;
use crate::policies::autoscaler::kpa::target::{MetricTarget, ScalingMetric};
use crate::policies::autoscaler::kpa::window::{Aggregation, Window};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    kpa("knative_scale", |_, case| verdict(scale(case))),
    kpa("knative_trace", |_, case| verdict(trace(case))),
    kpa("knative_window_average", |_, case| verdict(window_average(case))),
    kpa("knative_delay_window", |_, case| verdict(delay_window(case))),
    kpa("knative_metric_target", |_, case| verdict(metric_target(case))),
];

const fn kpa(family: &'static str, run: fn(&Value, &Value) -> Check) -> Adapter {
    Adapter { schema: SCHEMA_AUTOSCALER, family, algorithm: "autoscaler.kpa", run }
}

/// Averages may differ by this much, relatively; everything else is exact.
const TOLERANCE: f64 = 2e-6;

/// Time between decisions, a constant of the original.
const TICK: Duration = Duration::from_secs(2);

fn secs(value: &Value) -> Result<Duration, String> {
    integer(value).map(Duration::from_secs)
}

fn count(value: &Value) -> Result<u32, String> {
    integer(value)?.try_into().map_err(|_| format!("`{value}` is too large"))
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("`{value}` is not a truth value"))
}

fn cell(row: &[Value], column: usize) -> Result<&Value, String> {
    row.get(column).ok_or_else(|| format!("a row has no column {column}"))
}

/// The decider of a case, which finds `initial_ready` pods at `now`.
fn decider(case: &Value, now: Time) -> Result<Decider, String> {
    let written = field(case, "spec")?;
    let figure = |key: &str| number(field(written, key)?);
    let spec = DeciderSpec {
        target: MetricTarget { target: figure("target_value")?, total: figure("total_value")? },
        max_scale_up_rate: figure("max_scale_up_rate")?,
        max_scale_down_rate: figure("max_scale_down_rate")?,
        panic_threshold: figure("panic_threshold")?,
        stable_window: secs(field(written, "stable_window_s")?)?,
        target_burst_capacity: figure("target_burst_capacity")?,
        activation_scale: count(field(written, "activation_scale")?)?,
        scale_down_delay: secs(field(written, "scale_down_delay_s")?)?,
        tick_interval: TICK,
    };
    let mut decider = Decider::new(spec, now, count(field(case, "initial_ready")?)?);
    decider.set_reachable(flag(field(written, "reachable")?)?);
    Ok(decider)
}

fn scale(case: &Value) -> Result<Check, String> {
    // Created at an even second of the calendar, so slots of two seconds are cut as they are here.
    let mut decider = decider(case, Time::ZERO)?;
    let (steps, expected) = (list(field(case, "steps")?)?, list(field(case, "expected")?)?);
    same("number of answers", &steps.len(), &expected.len())?;
    for (step, expected) in steps.iter().zip(expected) {
        let (row, expected) = (list(step)?, list(expected)?);
        let (stable, panic) = (number(cell(row, 2)?)?, number(cell(row, 3)?)?);
        let at = integer(cell(row, 0)?)?;
        let result = decider.scale(Time::from_secs(at), count(cell(row, 1)?)?, stable, panic, &mut ());
        let ours = (
            i64::from(result.desired),
            i64::from(result.excess_burst_capacity),
            decider.is_panicking(),
            i64::from(decider.max_panic_pods()),
        );
        let whole = |column| {
            let value = cell(expected, column)?;
            value.as_i64().ok_or_else(|| format!("`{value}` is not an integer"))
        };
        let theirs = (whole(0)?, whole(1)?, flag(cell(expected, 2)?)?, whole(3)?);
        same(&format!("t={at}: desired, excess, panicking, panic pods"), &theirs, &ours)?;
    }
    Ok(Check::Passed)
}

fn trace(case: &Value) -> Result<Check, String> {
    if !integer(field(case, "start_unix_s")?)?.is_multiple_of(2) {
        return Err("the trace does not start at a multiple of the tick".to_owned());
    }
    same("tick", &secs(field(case, "tick_s")?)?, &TICK)?;
    let mut decider = decider(case, Time::ZERO)?;
    let stable_length = secs(field(field(case, "spec")?, "stable_window_s")?)?;
    let mut stable = Window::new(stable_length, Aggregation::Linear);
    let mut panic = Window::new(secs(field(case, "panic_window_s")?)?, Aggregation::Linear);
    let concurrency = list(field(case, "concurrency_per_second")?)?;
    let mut answers = list(field(case, "expected")?)?.iter();
    for (second, value) in (1..).zip(concurrency) {
        let now = Time::from_secs(second);
        for window in [&mut stable, &mut panic] {
            window.record(now, number(value)?);
        }
        if !now.0.is_multiple_of(TICK.0) {
            continue;
        }
        let expected = list(answers.next().ok_or("there are fewer answers than ticks")?)?;
        let ready = count(cell(expected, 0)?)?;
        let (stable, panic) = (stable.average(now), panic.average(now));
        close(&format!("t={second}: stable average"), number(cell(expected, 1)?)?, stable, TOLERANCE)?;
        close(&format!("t={second}: panic average"), number(cell(expected, 2)?)?, panic, TOLERANCE)?;
        let ScaleResult { desired, excess_burst_capacity, .. } =
            decider.scale(now, ready, stable, panic, &mut ());
        let ours = serde_json::json!([desired, excess_burst_capacity, u8::from(decider.is_panicking())]);
        let theirs = Value::from(expected.get(3..).unwrap_or_default().to_vec());
        same(&format!("t={second}: desired, excess, panicking"), &theirs, &ours)?;
    }
    same("answers left over", &0, &answers.len())?;
    Ok(Check::Passed)
}

fn window_average(case: &Value) -> Result<Check, String> {
    same("granularity", &1, &integer(field(case, "granularity_s")?)?)?;
    let aggregation = match text(field(case, "algorithm")?)? {
        "linear" => Aggregation::Linear,
        "weighted_exponential" => Aggregation::WeightedExponential,
        other => return Err(format!("`{other}` is no known algorithm")),
    };
    let mut window = Window::new(secs(field(case, "window_s")?)?, aggregation);
    let mut answers = list(field(case, "expected")?)?.iter();
    for op in list(field(case, "ops")?)? {
        let op = list(op)?;
        let millis = integer(cell(op, 1)?)?;
        let now = Time::from_millis(millis);
        match text(cell(op, 0)?)? {
            "record" => window.record(now, number(cell(op, 2)?)?),
            "query" => {
                let expected = list(answers.next().ok_or("there are fewer answers than queries")?)?;
                let average = number(cell(expected, 0)?)?;
                close(&format!("t={millis} ms: average"), average, window.average(now), TOLERANCE)?;
                let is_empty = flag(cell(expected, 1)?)?;
                same(&format!("t={millis} ms: emptiness"), &is_empty, &window.is_empty(now))?;
            }
            other => return Err(format!("`{other}` is no known operation")),
        }
    }
    same("answers left over", &0, &answers.len())?;
    Ok(Check::Passed)
}

fn delay_window(case: &Value) -> Result<Check, String> {
    let granularity = secs(field(case, "granularity_s")?)?;
    let base = secs(field(case, "base_unix_s")?)?;
    let mut window = DelayWindow::new(secs(field(case, "delay_s")?)?, granularity);
    let (records, expected) = (list(field(case, "records")?)?, list(field(case, "expected_current")?)?);
    same("number of answers", &records.len(), &expected.len())?;
    for (record, expected) in records.iter().zip(expected) {
        let row = list(record)?;
        let at = secs(cell(row, 0)?)?;
        let ours = window.record(Time::ZERO + base + at, count(cell(row, 1)?)?);
        same(&format!("t={at}: largest"), &count(expected)?, &ours)?;
    }
    Ok(Check::Passed)
}

fn metric_target(case: &Value) -> Result<Check, String> {
    let input = field(case, "input")?;
    // Annotations are texts.
    let annotation = |key: &str| match input.get(key) {
        None => Ok(None),
        Some(value) => {
            let parsed = text(value)?.parse::<f64>();
            parsed.map(Some).map_err(|_| format!("`{value}` is not a number"))
        }
    };
    let settings = KpaSettings {
        metric: match text(field(input, "metric")?)? {
            "concurrency" => ScalingMetric::Concurrency,
            "rps" => ScalingMetric::Rps,
            other => return Err(format!("`{other}` is no known metric")),
        },
        target: annotation("target")?,
        target_utilization_percentage: annotation("target_utilization_percentage")?,
        container_concurrency: count(field(input, "container_concurrency")?)?,
        ..KpaSettings::default()
    };
    let expected = field(case, "expected")?;
    let expected = MetricTarget {
        target: number(field(expected, "target")?)?,
        total: number(field(expected, "total")?)?,
    };
    same("target and total", &expected, &MetricTarget::resolve(&settings))?;
    Ok(Check::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_cases_pass() {
        crate::conform::rollout::tests::replay("autoscaler", ADAPTERS);
    }
}
