//! Flagger: what each tick makes of weights and phase.

use serde_json::Value;

use super::{Read, checked, count, rows, same};
use crate::conform::Check;
use crate::policies::rollout::flagger::{FlaggerPhase, FlaggerSettings, Machine};

type Tick = (u32, u32, bool, u32, String);

/// The recorded verdicts are used up by the ticks that look: while progressing and below the threshold.
pub(super) fn canary(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let number = |key: &str| count(&input[key]);
        let settings = FlaggerSettings {
            step_weight: number("step_weight")?,
            step_weights: rows(&input["step_weights"])?.iter().map(count).collect::<Read<_>>()?,
            max_weight: Some(number("max_weight")?),
            step_weight_promotion: number("step_weight_promotion")?,
            threshold: number("threshold")?,
            mirror: input["mirror"].as_bool().ok_or("mirror is not a truth value")?,
            ..FlaggerSettings::default()
        };
        let mut checks = rows(&input["checks"])?.iter();
        let mut machine = Machine::new(&settings);
        let mut ours: Vec<Tick> = Vec::new();
        let mut expected: Vec<Tick> = Vec::new();
        for tick in rows(&case["out"]["ticks"])? {
            let looks =
                machine.phase == FlaggerPhase::Progressing && machine.failed_checks < settings.threshold;
            let passed = !looks || checks.next().and_then(Value::as_bool).ok_or("too few checks")?;
            machine.tick(&settings, passed);
            let Machine { primary, canary, mirrored, failed_checks, phase, .. } = machine;
            ours.push((primary, canary, mirrored, failed_checks, phase.word().to_owned()));
            expected.push((
                count(&tick["primary"])?,
                count(&tick["canary"])?,
                tick["mirrored"].as_bool().ok_or("mirrored is not a truth value")?,
                count(&tick["failed_checks"])?,
                tick["phase"].as_str().ok_or("phase is not a text")?.to_owned(),
            ));
        }
        Ok(same("ticks", &ours, &expected))
    };
    checked(run())
}
