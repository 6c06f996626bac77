//! Versions of a service: what each of them is like, and from which it was made.

use super::Check;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::Version;
use crate::scenario::schema::{ServiceTable, VersionTable};

/// In place of a version: the one from which the version in place was made.
pub(super) const PARENT: &str = "parent";

impl Check<'_> {
    pub(super) fn versions(&mut self, table: &ServiceTable) -> Vec<Version> {
        let mut seen: Vec<&str> = Vec::new();
        let image = table.instance.image.map_or(0, |image| image.value.0);
        if table.version.is_empty() {
            return vec![Version {
                name: "v1".to_owned(),
                demand: 1.0,
                error_rate: 0.0,
                image,
                start: 1.0,
                leak_per_hour: 0,
                crash_loop: None,
                parent: None,
            }];
        }
        let mut versions = Vec::new();
        for version in &table.version {
            let name = &version.name;
            self.well_formed("version", name, true);
            if seen.contains(&name.value.as_str()) {
                self.wrong(format!("there are two versions named `{}`", name.value), name.place);
            }
            if name.value == PARENT {
                let error = Diagnostic::new("no version can be called `parent`").at(name.place);
                self.errors.push(error.hint("as in `switch`, it means the version from which one was made"));
            }
            let parent = self.parent(version, &seen);
            seen.push(&name.value);
            versions.push(self.version(version, table, image, parent));
        }
        versions
    }

    fn version(
        &mut self,
        version: &VersionTable,
        table: &ServiceTable,
        image: u64,
        parent: Option<usize>,
    ) -> Version {
        Version {
            name: version.name.value.clone(),
            demand: version
                .demand
                .map_or(1.0, |demand| self.above_zero(demand.value, "demand", demand.place)),
            error_rate: version.error_rate.map_or(0.0, |share| share.0),
            image: version.image.map_or(image, |image| image.value.0),
            start: version.start.map_or(1.0, |start| self.above_zero(start.value, "start", start.place)),
            leak_per_hour: version.leak_per_hour.map_or(0, |leak| {
                if table.instance.memory_use.is_none() {
                    let fault = "nothing can leak, since the memory of the service is not simulated";
                    let hint =
                        "write instance = { memory-limit = \"1GiB\", memory-use = { base = \"300MiB\" } }";
                    self.errors.push(Diagnostic::new(fault).at(leak.place).hint(hint));
                }
                leak.value.0
            }),
            crash_loop: version.crash_loop.as_ref().map(|law| {
                let read = self.law(law);
                if read.mean() <= 0.0 {
                    self.wrong("a process that ends when it begins would be started for ever", law.place);
                }
                read
            }),
            parent,
        }
    }

    /// Position of the version from which this one was made; those before it are known, so there are no circles.
    fn parent(&mut self, version: &VersionTable, before: &[&str]) -> Option<usize> {
        let Some(parent) = &version.parent else { return before.len().checked_sub(1) };
        let at = before.iter().position(|known| *known == parent.value);
        if at.is_none() {
            let error = Diagnostic::unknown("version before this one", &parent.value, before.iter().copied());
            self.errors.push(error.at(parent.place));
        }
        at
    }
}
