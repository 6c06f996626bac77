//! What an instance is: out of flags, out of the manifest that stands beside an autoscaler, or assumed.

use std::fmt::Write as _;

use super::contender::Contender;
use super::{Assumptions, quoted};
use crate::scenario::error::shortened;
use crate::units::{UnitError, parse_bytes};

/// The instances of the service.
pub(super) struct Instance {
    /// Its lines under `[[service]]`.
    pub(super) text: String,
    /// Cores that each can use.
    pub(super) cores: f64,
    /// How many there are at the start, if something says it.
    pub(super) replicas: Option<u32>,
}

impl Instance {
    pub(super) fn of(
        contenders: &[Contender],
        given: &Assumptions,
        assumptions: &mut Vec<String>,
    ) -> Result<Self, UnitError> {
        let workload = contenders.iter().find_map(|contender| contender.workload.as_ref());
        let cores = given.cores.map(f64::from).or_else(|| workload.map(|found| found.cores)).unwrap_or(1.0);
        let whole = cores.ceil() as u32;
        let workers = given.workers.or_else(|| workload?.workers).unwrap_or_else(|| 16 * whole);
        let mut text = String::new();
        if let Some(found) = workload {
            let _ = writeln!(
                text,
                "manifest = {}\nworkload = {}\nautoscaler = \"none\"",
                quoted(&found.path),
                quoted(&found.name)
            );
        }
        let mut keys = Vec::new();
        match (given.cores, workload) {
            // What the flag says is all that an instance gets, whatever the manifest says.
            (Some(cores), Some(_)) => keys.push(format!("cores = {cores}, cpu-limit = {cores}")),
            (_, None) => keys.push(format!("cores = {whole}")),
            (None, Some(_)) => {}
        }
        keys.extend(given.cpu_request.map(|cores| format!("cpu-request = {cores:?}")));
        if workload.is_none()
            && let Some(container) = contenders.iter().find_map(|contender| contender.container.as_ref())
        {
            keys.push(format!("container = {}", quoted(container)));
        }
        keys.extend(memory_use(contenders, given)?);
        keys.push(format!(
            "workers = {workers}, queue = {}, full = \"reject\", start = {}",
            given.max_queue,
            quoted(&given.start)
        ));
        let _ = writeln!(text, "instance = {{ {} }}", keys.join(", "));
        if let Some(found) = workload {
            assumptions.push(format!(
                "requests and limits of an instance are those of `{}` in {} [--cores, --cpu-request]",
                shortened(&found.name),
                found.file
            ));
        }
        assumptions.push(format!(
            "instances with {}, {workers} workers and {} waiting places [--cores, --workers, --max-queue]",
            if cores == 1.0 { "1 core".to_owned() } else { format!("{cores} cores") },
            given.max_queue
        ));
        let replicas = given.replicas.or_else(|| workload?.replicas);
        Ok(Self { text, cores, replicas })
    }
}

/// `memory-use = { .. }`, which whoever follows memory needs.
fn memory_use(contenders: &[Contender], given: &Assumptions) -> Result<Option<String>, UnitError> {
    let Some(written) = &given.memory_use else {
        let follower = contenders.iter().find(|contender| contender.follows_memory);
        return follower.map_or(Ok(None), |follower| {
            let message = format!("`{}` follows memory, and nothing says how much is used", follower.name);
            Err(UnitError::new(message).hint(
                "add --memory-use 300MiB, or --memory-use 300MiB+2MiB for 2 MiB more with each request inside",
            ))
        });
    };
    let (idle, each) = written.split_once('+').unwrap_or((written, "0B"));
    parse_bytes(idle.trim())?;
    parse_bytes(each.trim())?;
    let (idle, each) = (quoted(idle.trim()), quoted(each.trim()));
    Ok(Some(format!("memory-use = {{ base = {idle}, per-attempt = {each} }}")))
}
