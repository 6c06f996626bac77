//! Adapter for the vectors of hedging.

use serde_json::{Value, json};

use super::{Adapter, Check, SCHEMA_STEPS, field, integer, same, steps, text, verdict};
use crate::policies::Algorithm;
use crate::policies::hedge::grpc::{Grpc, GrpcSettings};
use crate::policies::hedge::{Act, Copies};
use crate::policies::retry::RetryOnSet;
use crate::policies::view::{Class, Outcome};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_STEPS,
    family: "hedging_grpc",
    algorithm: "hedge.grpc",
    run: |file, case| verdict(grpc(file, case)),
}];

/// What the vectors call an ending. Of the three that `non-fatal` can name one stands for all.
fn ending(name: &str) -> Result<Class, String> {
    match name {
        "ok" => Ok(Class::Success),
        "nonfatal" => Ok(Class::Rejected),
        "fatal" => Ok(Class::Failure),
        other => Err(format!("`{other}` is no known ending")),
    }
}

fn grpc(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let non_fatal = RetryOnSet::try_from(vec![crate::policies::retry::RetryOn::Rejected])?;
    let mut policy = Grpc::new(
        &GrpcSettings {
            max_attempts: integer(field(config, "max_attempts")?)? as u32,
            hedging_delay: Duration::from_millis(integer(field(config, "hedging_delay_ms")?)?),
            non_fatal,
        },
        Time::ZERO,
    );
    let deadline = Time::from_millis(integer(field(config, "deadline_ms")?)?);
    let responses = field(config, "responses")?.as_array().ok_or("`responses` is no list")?;
    let response = |copy: usize| -> Result<(Duration, String), String> {
        let pair = responses.get(copy).and_then(Value::as_array).ok_or("a copy has no response")?;
        let [latency, name] = &pair[..] else { return Err("a response is a time and an ending".to_owned()) };
        Ok((Duration::from_millis(integer(latency)?), text(name)?.to_owned()))
    };

    let mut copies = Copies::default();
    let mut sent: Vec<Time> = vec![Time::ZERO];
    let mut open: Vec<usize> = vec![0];
    copies.sent(Time::ZERO, &mut policy);
    let (result, end) = loop {
        // The next answer, then the next copy, then the deadline, if all are due at one instant.
        let mut next: Option<(Time, usize)> = None;
        for &copy in &open {
            let at = sent[copy] + response(copy)?.0;
            if next.is_none_or(|(before, _)| at < before) {
                next = Some((at, copy));
            }
        }
        let due = copies.due;
        let (answer, copy_due) = (next.map_or(Time::MAX, |(at, _)| at), due.unwrap_or(Time::MAX));
        if answer.min(copy_due) > deadline {
            break ("deadline".to_owned(), deadline);
        }
        let (now, act, name) = if let Some((at, copy)) = next
            && at <= copy_due
        {
            open.retain(|other| *other != copy);
            let (latency, name) = response(copy)?;
            let outcome = Outcome::new(ending(&name)?, latency);
            (at, copies.ended(at, &mut policy, &outcome), name)
        } else {
            (copy_due, Act::Send, String::new())
        };
        match act {
            Act::Send => {
                open.push(sent.len());
                sent.push(now);
                copies.sent(now, &mut policy);
            }
            Act::Wait => {}
            Act::End => break (name, now),
        }
    };
    let [step] = &steps(file, case)?.collect::<Vec<_>>()[..] else {
        return Err("a case of hedging has one step".to_owned());
    };
    let millis = |at: Time| at.0 as f64 / 1e6;
    let sent = json!(sent.into_iter().map(millis).collect::<Vec<_>>());
    same("send times", step.cell("send_times_ms")?, &sent)
        .and_then(|()| same("result", &text(step.cell("result")?)?, &result.as_ref()))
        .and_then(|()| same("end", &step.number("end_ms")?, &millis(end)))
        .map_err(|message| step.at(&message))?;
    Ok(Check::Passed)
}
