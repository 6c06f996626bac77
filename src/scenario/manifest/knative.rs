//! Knative's `Service`, `serving.knative.dev/v1`, with its `autoscaling.knative.dev/` annotations.
//!
//! Origin: `knative/serving`, `pkg/apis/autoscaling` (annotations and their bounds) and `pkg/apis/serving/v1`. Knative takes
//! autoscaling annotations on the template only and refuses them on the Service itself; so does this reader.

use super::fields::{Fields, Pair};
use super::pod::PodTemplate;
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::units::quantity::Quantity;

/// A Knative service. `None` means that the setting of the cluster (`config-autoscaler`) applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Knative {
    /// Most requests at a time per pod; 0 is without limit.
    pub container_concurrency: Option<u32>,
    /// Seconds that a request may take.
    pub timeout: Option<u32>,
    /// Settings of the autoscaler.
    pub autoscaling: Autoscaling,
    /// What runs.
    pub template: PodTemplate,
}

/// The annotations, with numbers in thousandths and times in whole seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Autoscaling {
    /// `class`: which autoscaler; `None` is Knative's own.
    pub class: Option<Class>,
    /// `metric`: `concurrency`, `rps`, or with the class `hpa` also `cpu`, `memory` and custom ones.
    pub metric: Option<String>,
    /// `metric-aggregation-algorithm`.
    pub aggregation: Option<Aggregation>,
    /// `target`, at least 0.01 of the metric per pod.
    pub target: Option<Quantity>,
    /// `target-utilization-percentage`, 1 ..= 100.
    pub target_utilization: Option<Quantity>,
    /// `target-burst-capacity`, not negative, or -1 for without limit.
    pub target_burst_capacity: Option<Quantity>,
    /// `window`, 6 s ..= 1 h.
    pub window: Option<u32>,
    /// `panic-window-percentage`, 1 ..= 100.
    pub panic_window: Option<Quantity>,
    /// `panic-threshold-percentage`, 110 ..= 1000.
    pub panic_threshold: Option<Quantity>,
    /// `min-scale`.
    pub min_scale: Option<u32>,
    /// `max-scale`; 0 is without limit.
    pub max_scale: Option<u32>,
    /// `initial-scale`.
    pub initial_scale: Option<u32>,
    /// `activation-scale`: pods to start with when coming from zero.
    pub activation_scale: Option<u32>,
    /// `scale-down-delay`, up to 1 h.
    pub scale_down_delay: Option<u32>,
    /// `scale-to-zero-pod-retention-period`, up to 1 h.
    pub pod_retention: Option<u32>,
}

/// Which autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Knative's own.
    Kpa,
    /// That of Kubernetes.
    Hpa,
}

/// How samples in a window are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// All alike.
    Linear,
    /// Recent ones count more.
    WeightedExponential,
}

/// What annotations of the autoscaler begin with.
const PREFIX: &str = "autoscaling.knative.dev/";

/// Longest window, delay and retention, in seconds.
const WINDOW_MAX: i64 = 3_600;
const WINDOW_MIN: i64 = 6;

impl Knative {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["template"]);
        fields.no_effect(&["traffic"]);
        fields.object("template", |fields| {
            let metadata = fields.object("metadata", |fields| {
                fields.silent(&["name", "namespace", "creationTimestamp"]);
                let labels = fields.map("labels");
                let annotations = fields.pairs("annotations");
                let autoscaling = Autoscaling::read(fields, &annotations);
                let annotations = annotations.into_iter().map(|pair| (pair.key, pair.value)).collect();
                Some((labels, annotations, autoscaling))
            });
            fields.need(&["spec"]);
            let (labels, annotations, autoscaling) = metadata.unwrap_or_default();
            let spec = fields.object("spec", |fields| {
                // Knative's own bound in `config-defaults`.
                let concurrency = fields.integer("containerConcurrency", 0..=1_000).map(|most| most as u32);
                let timeout = fields.count("timeoutSeconds");
                fields.no_effect(&["responseStartTimeoutSeconds", "idleTimeoutSeconds"]);
                let template = PodTemplate::spec(fields, false);
                Some((concurrency, timeout, template?))
            });
            let (container_concurrency, timeout, template) = spec?;
            let template = PodTemplate { labels, annotations, ..template };
            Some(Self { container_concurrency, timeout, autoscaling, template })
        })
    }
}

/// Refuses autoscaling annotations on the Service itself.
pub(super) fn check_annotations(fields: &mut Fields<'_>, annotations: &[Pair]) {
    for pair in annotations.iter().filter(|pair| pair.key.starts_with(PREFIX)) {
        let error = Diagnostic::new(format!("`{}` has no place on the Service itself", shortened(&pair.key)));
        let error = error.at(pair.key_place).note("Knative refuses it here");
        fields.error(error.hint("move it to spec.template.metadata.annotations"));
    }
}

/// One annotation that was found.
struct Setting<'a> {
    name: &'static str,
    value: &'a str,
    place: Place,
}

/// Names, and the older spellings that Knative still reads.
const NAMES: [(&str, &str); 15] = [
    ("class", ""),
    ("metric", ""),
    ("metric-aggregation-algorithm", "metricAggregationAlgorithm"),
    ("target", ""),
    ("target-utilization-percentage", "targetUtilizationPercentage"),
    ("target-burst-capacity", "targetBurstCapacity"),
    ("window", ""),
    ("panic-window-percentage", "panicWindowPercentage"),
    ("panic-threshold-percentage", "panicThresholdPercentage"),
    ("min-scale", "minScale"),
    ("max-scale", "maxScale"),
    ("initial-scale", "initialScale"),
    ("activation-scale", ""),
    ("scale-down-delay", "scaleDownDelay"),
    ("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod"),
];

impl Autoscaling {
    fn read(fields: &mut Fields<'_>, annotations: &[Pair]) -> Self {
        let mut settings: Vec<Setting<'_>> = Vec::new();
        for pair in annotations {
            let Some(found) = pair.key.strip_prefix(PREFIX) else { continue };
            let name =
                NAMES.iter().find(|(name, older)| *name == found || !older.is_empty() && *older == found);
            let Some(&(name, _)) = name else {
                let unknown = Diagnostic::unknown("annotation", found, NAMES.map(|(name, _)| name));
                fields.error(unknown.at(pair.key_place));
                continue;
            };
            if settings.iter().any(|setting| setting.name == name) {
                fields.error(
                    Diagnostic::new(format!("`{name}` is written in both spellings")).at(pair.key_place),
                );
                continue;
            }
            settings.push(Setting { name, value: &pair.value, place: pair.place });
        }
        let mut read = Annotations { settings, errors: Vec::new() };
        let autoscaling = Self {
            class: read.choice(
                "class",
                &[("kpa.autoscaling.knative.dev", Class::Kpa), ("hpa.autoscaling.knative.dev", Class::Hpa)],
            ),
            metric: read.find("metric").map(|setting| setting.value.to_owned()),
            aggregation: read.choice(
                "metric-aggregation-algorithm",
                &[
                    ("linear", Aggregation::Linear),
                    ("weightedExponential", Aggregation::WeightedExponential),
                    ("weighted-exponential", Aggregation::WeightedExponential),
                ],
            ),
            target: read.number("target", 10, i64::MAX),
            target_utilization: read.number("target-utilization-percentage", 1_000, 100_000),
            target_burst_capacity: read.number("target-burst-capacity", -1_000, i64::MAX),
            window: read.seconds("window", WINDOW_MIN),
            panic_window: read.number("panic-window-percentage", 1_000, 100_000),
            panic_threshold: read.number("panic-threshold-percentage", 110_000, 1_000_000),
            min_scale: read.count("min-scale", 0),
            max_scale: read.count("max-scale", 0),
            initial_scale: read.count("initial-scale", 0),
            activation_scale: read.count("activation-scale", 1),
            scale_down_delay: read.seconds("scale-down-delay", 0),
            pod_retention: read.seconds("scale-to-zero-pod-retention-period", 0),
        };
        autoscaling.check(&mut read);
        for error in read.errors {
            fields.error(error);
        }
        autoscaling
    }

    /// What two annotations together may not say.
    fn check(&self, read: &mut Annotations<'_>) {
        if let (Some(min), Some(max)) = (self.min_scale, self.max_scale)
            && max != 0
            && min > max
        {
            read.refuse("min-scale", format!("`min-scale` ({min}) is greater than `max-scale` ({max})"));
        }
        if self.target_burst_capacity.is_some_and(|capacity| (-999..0).contains(&capacity.milli())) {
            read.refuse("target-burst-capacity", "`target-burst-capacity` is -1 or not negative".to_owned());
        }
        let known = ["concurrency", "rps"];
        if let Some(metric) = &self.metric
            && self.class != Some(Class::Hpa)
            && !known.contains(&metric.as_str())
        {
            let place = read.find("metric").map(|setting| setting.place).unwrap_or_default();
            let error = Diagnostic::new(format!("unknown metric `{}`", shortened(metric))).at(place);
            let error = error.among(metric, known);
            let hint = "cpu and memory go with the class hpa.autoscaling.knative.dev";
            let resource = matches!(metric.as_str(), "cpu" | "memory");
            read.errors.push(if resource { error.hint(hint) } else { error });
        }
    }
}

/// Annotations of one service, and what is wrong with them.
struct Annotations<'a> {
    settings: Vec<Setting<'a>>,
    errors: Vec<Diagnostic>,
}

impl Annotations<'_> {
    fn find(&self, name: &str) -> Option<&Setting<'_>> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    fn refuse(&mut self, name: &str, message: String) {
        let place = self.find(name).map(|setting| setting.place).unwrap_or_default();
        self.errors.push(Diagnostic::new(message).at(place));
    }

    fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let setting = self.find(name)?;
        let found = choices.iter().find(|(word, _)| *word == setting.value).map(|(_, value)| *value);
        if found.is_none() {
            let error =
                Diagnostic::new(format!("unknown {name} `{}`", shortened(setting.value))).at(setting.place);
            self.errors.push(error.among(setting.value, choices.iter().map(|(word, _)| *word)));
        }
        found
    }

    fn count(&mut self, name: &'static str, least: u32) -> Option<u32> {
        let setting = self.find(name)?;
        let number = setting.value.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
        let message = match number {
            Some(number) if number >= least => return Some(number),
            Some(number) => format!("`{name}` is {number}, but must be at least {least}"),
            None => {
                format!("`{name}` is a whole number of at least {least}, not `{}`", shortened(setting.value))
            }
        };
        self.refuse(name, message);
        None
    }

    /// A number within bounds in thousandths.
    fn number(&mut self, name: &'static str, least: i64, most: i64) -> Option<Quantity> {
        let value = self.find(name)?.value;
        let plain = value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
        let shown = shortened(value);
        let (least_shown, most_shown) = (Quantity::from_milli(least), Quantity::from_milli(most));
        let decimal = |quantity: Quantity| quantity.milli() as f64 / 1_000.0;
        let message = match Quantity::parse(value).ok().filter(|_| plain && !value.ends_with(['e', 'E'])) {
            Some(number) if (least..=most).contains(&number.milli()) => return Some(number),
            Some(number) if number.milli() < least => {
                format!("`{name}` is {shown}, but must be at least {}", decimal(least_shown))
            }
            Some(_) => format!("`{name}` is {shown}, but must be at most {}", decimal(most_shown)),
            None => format!("`{name}` is a number, not `{shown}`"),
        };
        self.refuse(name, message);
        None
    }

    /// A time such as `60s` or `1m30s`, in whole seconds and at most an hour.
    fn seconds(&mut self, name: &'static str, least: i64) -> Option<u32> {
        const SECOND: i128 = 1_000_000_000;
        let value = self.find(name)?.value;
        let shown = shortened(value);
        let message = match nanoseconds(value) {
            None => format!("`{name}` is a time such as \"60s\" or \"1m30s\", not `{shown}`"),
            Some(time) if time < i128::from(least) * SECOND => {
                format!("`{name}` is {shown}, but must be at least {least}s")
            }
            Some(time) if time > i128::from(WINDOW_MAX) * SECOND => {
                format!("`{name}` is {shown}, but must be at most 1h")
            }
            Some(time) if time % SECOND != 0 => format!("`{name}` is {shown}, but must be whole seconds"),
            Some(time) => return Some((time / SECOND) as u32),
        };
        self.refuse(name, message);
        None
    }
}

/// A Go duration, `1h2m3.5s`, in nanoseconds; what is finer is cut off.
pub(super) fn nanoseconds(text: &str) -> Option<i128> {
    const UNITS: &[(&str, i128)] = &[
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    /// More digits than any time of an hour at nanoseconds has.
    const MOST_DIGITS: usize = 18;
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.len() > MOST_DIGITS || fraction.contains('.') || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        total += digits * unit / 10_i128.pow(fraction.len() as u32);
        rest = next;
    }
    (!text.is_empty() && text != "+" && text != "-").then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, nanos) in [
            ("60s", Some(60_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("0", Some(0)),
            (".5s", Some(500_000_000)),
            ("-1s", Some(-1_000_000_000)),
            ("60", None),
            ("", None),
            ("s", None),
            ("1d", None),
            ("1.2.3s", None),
            ("1 s", None),
            ("+", None),
        ] {
            assert_eq!(nanoseconds(text), nanos, "{text}");
        }
    }
}
