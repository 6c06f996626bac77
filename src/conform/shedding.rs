//! Adapters for the vectors of shedding.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, field, integer, steps, verdict};
use crate::policies::Algorithm;
use crate::policies::shedding::codel::{Codel, CodelSettings};
use crate::policies::shedding::{Shedding, Turn};
use crate::random::{Playback, Rng};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_STEPS,
    family: "codel_folly",
    algorithm: "shedding.codel",
    run: |file, case| verdict(codel(file, case)),
}];

fn codel(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let millis = |key| Ok::<_, String>(Duration::from_millis(integer(field(config, key)?)?));
    let settings = CodelSettings { interval: millis("interval_ms")?, target_delay: millis("target_ms")? };
    let mut codel = Codel::new(&settings, Time(integer(field(config, "start_ns")?)?));
    for step in steps(file, case)? {
        let drops = match step.text("op")? {
            "q" => {
                let waited = Duration(step.integer("queue_delay_ns")?);
                let turn = Turn { priority: 0, waiting: 0, waited, left: None };
                codel.drops(Time(step.integer("t")?), &turn, &mut Rng::playback(Playback::default()))
            }
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        step.expect("drop", drops.into())?;
        step.expect("overloaded", codel.overloaded().into())?;
        step.expect("min_delay_ns", codel.shortest().0)?;
        step.expect("load_pct", codel.load())?;
    }
    Ok(Check::Passed)
}
