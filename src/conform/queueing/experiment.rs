//! One scenario that answers some rows of a table, and how long it runs.

use std::fmt::Write as _;

use super::reading::{Control, Read, Reading};

/// A scenario with its run length, and what one row wants to know from it.
pub(super) struct Experiment {
    /// Everything below `[scenario]`.
    pub(super) body: String,
    /// Part of a run that is thrown away.
    pub(super) warm_up_s: f64,
    /// Part of a run that counts. Only the number of replications is decided later.
    pub(super) counted_s: f64,
    /// Width of a timeline window, if the reading needs the timeline.
    pub(super) resolution_s: Option<f64>,
    /// What the row asks.
    pub(super) reading: Reading,
    /// What else is known about it.
    pub(super) controls: Vec<Control>,
}

/// Relaxation times before counting begins: what is left of the empty start is e^-10 of it.
const WARM_UP: f64 = 10.0;

/// Relaxation times that count. Many against the warm-up, so that it costs little, and enough for the bias of ratios within
/// a run (a share 1 / `COUNTED` of a percent or so) to be lost in the noise.
const COUNTED: f64 = 300.0;

/// Requests that a run counts at least, so that building a world does not dominate.
const FEWEST: f64 = 20_000.0;

impl Experiment {
    /// A stationary system that forgets its start in about `relaxation_s`, with `rate` requests per second.
    pub(super) fn steady(body: String, relaxation_s: f64, rate: f64, reading: Reading) -> Self {
        let counted_s = (COUNTED * relaxation_s).max(FEWEST / rate).ceil();
        Self::fixed(body, (WARM_UP * relaxation_s).ceil(), counted_s, reading)
    }

    /// A run of a given length.
    pub(super) fn fixed(body: String, warm_up_s: f64, counted_s: f64, reading: Reading) -> Self {
        Self { body, warm_up_s, counted_s, resolution_s: None, reading, controls: Vec::new() }
    }

    /// With a timeline of this resolution.
    pub(super) fn windows(mut self, resolution_s: f64) -> Self {
        self.resolution_s = Some(resolution_s);
        self
    }

    /// With something whose mean is known: a metric, or any other number.
    pub(super) fn control(mut self, what: &'static str, read: Read<f64>, expected: f64) -> Self {
        self.controls.push(Control { what, read, expected });
        self
    }

    /// With the rate at which requests come.
    pub(super) fn rate(self, rate: f64) -> Self {
        self.control(
            "the rate of arrivals",
            Box::new(|report| report.metrics.get("offered_rps").copied()),
            rate,
        )
    }

    /// With the share of time that each core of a service works.
    pub(super) fn load(self, service: &str, load: f64) -> Self {
        let name = format!("service.{service}.utilization");
        self.control("the load", Box::new(move |report| report.metrics.get(&name).copied()), load)
    }

    /// The scenario as a file would have it.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "[scenario]\nname = \"queueing\"\nduration = \"{}s\"\nwarm-up = \"{}s\"\n",
            self.warm_up_s + self.counted_s,
            self.warm_up_s
        );
        if let Some(resolution) = self.resolution_s {
            let _ = writeln!(text, "resolution = \"{resolution}s\"");
        }
        text + &self.body
    }
}

/// Relaxation time of a single-server queue with load `rho`, mean service `service_s` and squared coefficients of variation
/// of gaps and service; exact for M/M/1 in heavy traffic, an upper bound for it elsewhere.
pub(super) fn relaxation(service_s: f64, rho: f64, gap_cv2: f64, service_cv2: f64) -> f64 {
    2.0 * (gap_cv2 + service_cv2) * service_s / ((1.0 - rho) * (1.0 - rho))
}

/// One service that serves every request in the steps given.
pub(super) fn service(name: &str, instance: &str, steps: &[&str]) -> String {
    format!(
        "\n[[service]]\nname = \"{name}\"\ninstance = {{ {instance} }}\n[[service.endpoint]]\nname = \"serve\"\nsteps = [{}]\n",
        quoted(steps)
    )
}

/// One more endpoint of the service written last.
pub(super) fn endpoint(name: &str, steps: &[&str]) -> String {
    format!("[[service.endpoint]]\nname = \"{name}\"\nsteps = [{}]\n", quoted(steps))
}

/// A source named `customers` whose requests take the steps given.
pub(super) fn customers(arrivals: &str, steps: &[&str]) -> String {
    source("customers", arrivals, steps)
}

/// A source.
pub(super) fn source(name: &str, arrivals: &str, steps: &[&str]) -> String {
    format!("\n[[source]]\nname = \"{name}\"\nsteps = [{}]\narrivals.{arrivals}\n", quoted(steps))
}

/// Poisson arrivals.
pub(super) fn poisson(rate: f64) -> String {
    format!("poisson = {{ rate = \"{rate}/s\" }}")
}

/// An exponential law.
pub(super) fn exp(mean_s: f64) -> String {
    format!("exp({mean_s}s)")
}

fn quoted(steps: &[&str]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("\"{step}\"")).collect();
    steps.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_the_loader_reads() {
        let body = service("server", "workers = 1", &["cpu exp(1s)"])
            + &endpoint("other", &["wait 1s", "call server.serve"])
            + &customers(&poisson(0.5), &["call server.serve"]);
        let experiment = Experiment::steady(body, 8.0, 0.5, Reading::Mean(Box::new(|_| None))).windows(0.25);
        let text = experiment.text();
        assert!(text.contains("duration = \"40080s\"\nwarm-up = \"80s\"\nresolution = \"0.25s\""), "{text}");
        let study =
            crate::scenario::model::Study::from_text("test", &text, &crate::scenario::Overrides::default());
        assert_eq!(study.unwrap().strategies[0].scenario.services[0].endpoints.len(), 2);
    }

    #[test]
    fn relaxation_follows_heavy_traffic() {
        let exact = |rho: f64| 1.0 / ((1.0 - rho.sqrt()) * (1.0 - rho.sqrt()));
        for rho in [0.5, 0.8, 0.95] {
            let ours = relaxation(1.0, rho, 1.0, 1.0);
            assert!(ours > exact(rho) && ours < 1.5 * exact(rho), "{rho}");
        }
    }
}
