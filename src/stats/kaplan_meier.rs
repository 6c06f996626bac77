//! Kaplan and Meier (1958): times to an event when some runs ended before it happened.
//!
//! A run that has not recovered when it ends says "longer than this", and leaving it out would make recovery look
//! faster the worse it gets. Such a time is *censored*: it counts among those at risk until it is left, and not as an event.

/// One observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Time to the event, or time watched in vain.
    pub time: f64,
    /// Whether the event happened.
    pub happened: bool,
}

/// Steps of the survival curve: (time, share for which the event has not happened after it), ascending. An event at the
/// time of a censoring comes before it, as usual.
pub fn survival(observations: &[Observation]) -> Vec<(f64, f64)> {
    let mut sorted = observations.to_vec();
    sorted.sort_by(|a, b| a.time.total_cmp(&b.time));
    let (mut steps, mut surviving, mut index) = (Vec::new(), 1.0, 0);
    while index < sorted.len() {
        let time = sorted[index].time;
        let tied = sorted[index..].iter().take_while(|other| other.time.total_cmp(&time).is_eq()).count();
        let events = sorted[index..index + tied].iter().filter(|other| other.happened).count();
        if events > 0 {
            surviving *= 1.0 - events as f64 / (sorted.len() - index) as f64;
            steps.push((time, surviving));
        }
        index += tied;
    }
    steps
}

/// The earliest time by which the event has happened to at least half; `None` if it never comes to that.
pub fn median(observations: &[Observation]) -> Option<f64> {
    // A little over one half still is one half after rounding.
    survival(observations).into_iter().find(|(_, surviving)| *surviving <= 0.5 + 1e-12).map(|(time, _)| time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(times: &[f64]) -> Vec<Observation> {
        times.iter().map(|&time| Observation { time: time.abs(), happened: time > 0.0 }).collect()
    }

    #[test]
    fn known_values() {
        // Freireich et al. 1963, remission of 21 patients under 6-MP; a minus sign marks the censored.
        let weeks = [
            6.0, 6.0, 6.0, -6.0, 7.0, -9.0, 10.0, -10.0, -11.0, 13.0, 16.0, -17.0, -19.0, -20.0, 22.0, 23.0,
            -25.0, -32.0, -32.0, -34.0, -35.0,
        ];
        let curve = survival(&seen(&weeks));
        let known = [
            (6.0, 0.857_143),
            (7.0, 0.806_723),
            (10.0, 0.752_941),
            (13.0, 0.690_196),
            (16.0, 0.627_451),
            (22.0, 0.537_815),
            (23.0, 0.448_179),
        ];
        assert_eq!(curve.len(), known.len());
        for (found, known) in curve.iter().zip(known) {
            assert!(
                (found.0, (found.1 - known.1).abs() < 1e-6) == (known.0, true),
                "{found:?} is not {known:?}"
            );
        }
        assert_eq!(median(&seen(&weeks)), Some(23.0));
    }

    #[test]
    fn edge_cases() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&seen(&[-5.0, -6.0])), None);
        assert_eq!(median(&seen(&[3.0, 1.0, 2.0])), Some(2.0));
        assert_eq!(median(&seen(&[4.0, 1.0, 2.0, 3.0])), Some(2.0));
        assert_eq!(median(&seen(&[4.0, 1.0, -100.0, -100.0])), Some(4.0));
        assert_eq!(median(&seen(&[4.0, 1.0, -100.0, -100.0, -100.0])), None);
    }
}
