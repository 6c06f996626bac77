//! The grammar of laws, read by recursive descent; it stands at the top of [`law`](super).

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::{Choice, Dimension, Empirical, Files, Law, Mixture, buckets};
use crate::units::{self, UnitError};

pub(super) fn parse(text: &str, dimension: Dimension, files: Files<'_>) -> Result<Law, UnitError> {
    let mut parser = Parser { text, at: 0, dimension, files, depth: 0 };
    let law = parser.law()?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.unexpected("a law may be followed by `+ 2ms` (shift) or `x 1.5` (scale)"));
    }
    Ok(law)
}

struct Parser<'t, 'f> {
    text: &'t str,
    at: usize,
    dimension: Dimension,
    files: Files<'f>,
    /// Mixtures this one stands in.
    depth: u32,
}

/// One argument of a law.
struct Argument<'t> {
    name: Option<&'t str>,
    text: &'t str,
    at: Range<usize>,
}

/// Every law that is written like a function, for error texts.
const NAMES: &[&str] = &[
    "exp",
    "uniform",
    "erlang",
    "gamma",
    "lognormal",
    "weibull",
    "pareto",
    "bounded-pareto",
    "hyperexp",
    "normal",
    "file",
    "empirical",
    "buckets",
    "mix",
];

impl<'t> Parser<'t, '_> {
    fn law(&mut self) -> Result<Law, UnitError> {
        self.skip_space();
        let start = self.at;
        let mut law = self.atom()?;
        loop {
            self.skip_space();
            let rest = &self.text[self.at..];
            if let Some(after) = rest.strip_prefix('+') {
                self.at = self.text.len() - after.len();
                let word = self.word()?;
                law = law.shifted(self.quantity(&word)?);
            } else if let Some(after) = rest.strip_prefix(['x', '×']) {
                self.at = self.text.len() - after.len();
                let word = self.word()?;
                let factor = units::parse_number(word.text)
                    .map_err(|error| error.within(word.at.start, word.text.len()))?;
                law = law.scaled(factor);
            } else {
                return Ok(law);
            }
            let finite = match &law {
                Law::Constant(value) | Law::Exponential(value) => value.is_finite(),
                Law::Affine(affine) => affine.scale.is_finite() && affine.shift.is_finite(),
                _ => true,
            };
            if !finite {
                return Err(UnitError::new("this law is too large").at(start..self.at));
            }
        }
    }

    /// `name(...)` or a quantity.
    fn atom(&mut self) -> Result<Law, UnitError> {
        self.skip_space();
        let rest = &self.text[self.at..];
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let word = self.word()?;
            return Ok(Law::Constant(self.quantity(&word)?));
        }
        let start = self.at;
        let len =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
        let (name, name_at) = (&rest[..len], start..start + len);
        self.at += len;
        self.skip_space();
        let opened = self.text[self.at..].starts_with('(');
        if !NAMES.contains(&name) {
            let error = UnitError::new(format!("unknown law `{name}`")).at(name_at);
            let best = NAMES
                .iter()
                .map(|known| (strsim::jaro_winkler(known, name), known))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            return Err(match best {
                Some((likeness, known)) if likeness > 0.75 => error.hint(format!("did you mean `{known}`?")),
                _ => error.hint(format!("known laws: a plain quantity, {}", NAMES.join(", "))),
            });
        }
        if !opened {
            return Err(UnitError::new(format!("`{name}` is followed by its arguments in parentheses"))
                .hint(format!("as in `{}`", example(name)))
                .at(name_at));
        }
        let (inner_start, inner_end) = self.parentheses()?;
        let law = if name == "mix" {
            self.mixture(inner_start, inner_end)?
        } else {
            let arguments = self.arguments(inner_start, inner_end);
            self.named(name, name_at.start..inner_end + 1, &arguments)?
        };
        self.at = inner_end + 1;
        Ok(law)
    }

    /// At an opening parenthesis: the bytes between it and the one that closes it.
    fn parentheses(&self) -> Result<(usize, usize), UnitError> {
        let mut depth = 0;
        for (offset, c) in self.text[self.at..].char_indices() {
            match c {
                '(' => depth += 1,
                ')' if depth == 1 => return Ok((self.at + 1, self.at + offset)),
                ')' => depth -= 1,
                _ => {}
            }
        }
        Err(UnitError::new("this parenthesis is never closed").at(self.at..self.at + 1))
    }

    /// Splits at commas that no parentheses enclose.
    fn split(&self, start: usize, end: usize) -> Vec<(usize, &'t str)> {
        let text = &self.text[start..end];
        let (mut pieces, mut depth, mut from) = (Vec::new(), 0_i32, 0);
        for (offset, c) in text.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => {
                    pieces.push((from, offset));
                    from = offset + 1;
                }
                _ => {}
            }
        }
        if !(text.trim().is_empty() && pieces.is_empty()) {
            pieces.push((from, text.len()));
        }
        let trimmed = |(from, to): (usize, usize)| {
            let piece = &text[from..to];
            let lead = piece.len() - piece.trim_start().len();
            (start + from + if piece.trim().is_empty() { 0 } else { lead }, piece.trim())
        };
        pieces.into_iter().map(trimmed).collect()
    }

    fn arguments(&self, start: usize, end: usize) -> Vec<Argument<'t>> {
        let argument = |(at, text): (usize, &'t str)| {
            let named = text.split_once('=').filter(|(name, _)| {
                let name = name.trim();
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            });
            match named {
                Some((name, value)) => {
                    let value_at = at + text.len() - value.trim_start().len();
                    Argument {
                        name: Some(name.trim()),
                        text: value.trim(),
                        at: value_at..value_at + value.trim().len(),
                    }
                }
                None => Argument { name: None, text, at: at..at + text.len() },
            }
        };
        self.split(start, end).into_iter().map(argument).collect()
    }

    /// All laws but `mix`.
    fn named(
        &mut self,
        name: &str,
        whole: Range<usize>,
        arguments: &[Argument<'t>],
    ) -> Result<Law, UnitError> {
        let parameters: &[&str] = match name {
            "exp" => &["mean"],
            "uniform" => &["low", "high"],
            "erlang" => &["mean", "k"],
            "gamma" | "lognormal" | "hyperexp" => &["mean", "cv"],
            "weibull" => &["mean", "shape"],
            "pareto" => &["min", "alpha"],
            "bounded-pareto" => &["min", "max", "alpha"],
            "normal" => &["mean", "sd"],
            _ => return self.read_file(name, whole, arguments),
        };
        let given = in_order(name, parameters, &whole, arguments)?;
        let values = parameters
            .iter()
            .zip(&given)
            .map(|(parameter, argument)| match *parameter {
                "k" | "cv" | "shape" | "alpha" => units::parse_number(argument.text)
                    .map_err(|error| error.within(argument.at.start, argument.text.len())),
                _ => self.quantity(argument),
            })
            .collect::<Result<Vec<f64>, UnitError>>()?;
        let refuse = |index: usize, why: &str, hint: &str| {
            let error = UnitError::new(format!("{} of `{name}` must {why}", parameters[index]))
                .at(given[index].at.clone());
            Err(if hint.is_empty() { error } else { error.hint(hint) })
        };
        let law = match (name, &values[..]) {
            ("exp", &[mean]) => Law::exponential(mean),
            ("uniform", &[low, high]) if low > high => {
                return refuse(1, "not be below low", "write the smaller value first");
            }
            ("uniform", &[low, high]) if low == high => Law::Constant(low),
            ("uniform", &[low, high]) => Law::Uniform { low, high },
            ("erlang", &[_, k]) if !(1.0..=1e6).contains(&k) || k != libm::floor(k) => {
                return refuse(
                    1,
                    "be a whole number from 1 to 1 000 000",
                    "use `gamma(mean, cv=..)` for anything between",
                );
            }
            ("erlang", &[mean, k]) => Law::erlang(mean, k as u32),
            ("gamma" | "lognormal", &[_, cv]) if !(cv == 0.0 || (1e-3..=1e3).contains(&cv)) => {
                return refuse(
                    1,
                    "be 0 or between 0.001 and 1000",
                    "it is the standard deviation / mean, as in cv=1.5",
                );
            }
            ("gamma", &[mean, cv]) => Law::gamma(mean, cv),
            ("lognormal", &[mean, cv]) => Law::lognormal(mean, cv),
            ("hyperexp", &[_, cv]) if !(1.0..=1e3).contains(&cv) => {
                return refuse(
                    1,
                    "be between 1 and 1000",
                    "use `gamma` or `erlang` for less variation than an exponential",
                );
            }
            ("hyperexp", &[mean, cv]) => Law::hyperexponential(mean, cv),
            ("weibull", &[_, shape]) if !(0.05..=1e3).contains(&shape) => {
                return refuse(1, "be between 0.05 and 1000", "below 1 the tail is heavy, 1 is exponential");
            }
            ("weibull", &[mean, shape]) => Law::weibull(mean, shape),
            ("pareto" | "bounded-pareto", values) if values[0] == 0.0 => {
                return refuse(0, "be above zero", "");
            }
            ("pareto" | "bounded-pareto", values) if !(1e-2..=1e3).contains(&values[values.len() - 1]) => {
                return refuse(
                    values.len() - 1,
                    "be between 0.01 and 1000",
                    "most tails lie between 1 and 3",
                );
            }
            ("pareto", &[min, alpha]) => Law::Pareto { min, alpha },
            ("bounded-pareto", &[min, max, _]) if min >= max => {
                return refuse(1, "be above min", "write the smaller value first");
            }
            ("bounded-pareto", &[min, max, alpha]) => Law::bounded_pareto(min, max, alpha),
            ("normal", &[mean, 0.0]) => Law::Constant(mean),
            ("normal", &[mean, sd]) => Law::Normal { mean, sd },
            _ => unreachable!("every name of a law is read above"),
        };
        Ok(law)
    }

    /// `80%: law, 20%: law`.
    fn mixture(&mut self, start: usize, end: usize) -> Result<Law, UnitError> {
        if self.depth == 16 {
            return Err(UnitError::new("mixtures within mixtures within mixtures")
                .hint("16 levels must be enough")
                .at(start..end));
        }
        let pieces = self.split(start, end);
        let (mut weights, mut laws) = (Vec::new(), Vec::new());
        for (at, piece) in pieces {
            let Some((share, law)) = piece.split_once(':') else {
                return Err(UnitError::new(format!("`{piece}` has no share"))
                    .hint("as in `mix(80%: exp(5ms), 20%: exp(500ms))`")
                    .at(at..at + piece.len()));
            };
            weights.push(units::parse_share(share).map_err(|error| error.within(at, share.len()))?);
            let law_at = at + share.len() + 1;
            let mut inner = Parser {
                text: &self.text[..law_at + law.len()],
                at: law_at,
                dimension: self.dimension,
                files: self.files,
                depth: self.depth + 1,
            };
            laws.push(inner.law()?);
            inner.skip_space();
            if inner.at < inner.text.len() {
                return Err(inner.unexpected("the parts of a mixture are parted by commas"));
            }
        }
        let sum: f64 = weights.iter().sum();
        if (sum - 1.0).abs() > 1e-9 {
            let percent = (sum * 1e10).round() / 1e8;
            return Err(UnitError::new(format!("the shares of `mix` sum to {percent}%"))
                .hint("they must sum to 100%")
                .at(start..end));
        }
        let choice = Choice::new(weights)
            .ok_or_else(|| UnitError::new("these shares cannot be drawn from").at(start..end))?;
        Ok(Law::Mixture(Arc::new(Mixture { laws: laws.into(), choice })))
    }

    /// `file(path:column[, unit=ms])` and `buckets(path[, unit=s, top=30s, metric=name])`.
    fn read_file(
        &mut self,
        name: &str,
        whole: Range<usize>,
        arguments: &[Argument<'t>],
    ) -> Result<Law, UnitError> {
        let usage = |message: String, at: Range<usize>| {
            UnitError::new(message).hint(format!("as in `{}`", example(name))).at(at)
        };
        let Some((Argument { name: None, text: target, at }, options)) = arguments.split_first() else {
            return Err(usage(format!("`{name}` needs a file"), whole));
        };
        let (mut given_unit, mut top, mut metric) = (None, None, None);
        let mut written = (*target).to_owned();
        for option in options {
            match option.name {
                Some("unit") => given_unit = Some(self.factor(option.text, &option.at)?),
                Some("top") if name == "buckets" => top = Some(self.quantity(option)?),
                Some("metric") if name == "buckets" => metric = Some(option.text),
                _ => {
                    return Err(usage(
                        format!("`{}` is not an option of `{name}`", option.text),
                        option.at.clone(),
                    ));
                }
            }
            let _ = write!(written, ", {}={}", option.name.unwrap_or_default(), option.text);
        }
        let unit = given_unit;
        let place = |error: UnitError| UnitError { at: Some(at.clone()), ..error };
        if name == "buckets" {
            let content = (self.files)(target).map_err(place)?;
            // Prometheus measures time in seconds and sizes in bytes.
            let unit = unit.unwrap_or(if self.dimension == Dimension::Time { 1e9 } else { 1.0 });
            let options = buckets::Options { unit, top, metric };
            return buckets::law(target, written, &content, &options).map_err(place);
        }
        let Some((path, column)) = target.rsplit_once(':') else {
            return Err(usage(format!("`{target}` does not name a column"), at.clone()));
        };
        let content = (self.files)(path).map_err(place)?;
        let unit = unit.or_else(|| {
            let suffix = column.rsplit('_').next().unwrap_or(column);
            self.factor(suffix, at).ok()
        });
        empirical(path, column, written, &content, unit, self.dimension).map_err(place)
    }

    /// What one of a unit is worth in the base unit.
    fn factor(&self, unit: &str, at: &Range<usize>) -> Result<f64, UnitError> {
        let table = match self.dimension {
            Dimension::Time => units::TIMES,
            Dimension::Bytes => units::BYTES,
            Dimension::Number => &[][..],
        };
        match table.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => Ok(*factor as f64),
            None if table.is_empty() => Err(UnitError::new("plain numbers have no unit").at(at.clone())),
            None => {
                let known = table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                Err(UnitError::new(format!("`{unit}` is not a unit here"))
                    .hint(format!("known units: {known}"))
                    .at(at.clone()))
            }
        }
    }

    fn quantity(&self, word: &Argument<'_>) -> Result<f64, UnitError> {
        let value = match self.dimension {
            Dimension::Time => units::parse_duration_ns(word.text),
            Dimension::Bytes => units::parse_bytes(word.text).map(|bytes| bytes as f64),
            Dimension::Number => units::parse_number(word.text),
        };
        value.map_err(|error| error.within(word.at.start, word.text.len()))
    }

    /// A quantity: up to a comma, a parenthesis, a plus sign or the `x` of a scale.
    fn word(&mut self) -> Result<Argument<'t>, UnitError> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let mut end = 0;
        for (offset, c) in rest.char_indices() {
            let exponent = || rest[..offset].ends_with(['e', 'E']);
            match c {
                ',' | '(' | ')' | ':' | '×' => break,
                '+' if !exponent() => break,
                // No unit of anything is an x.
                'x' if rest[..offset].ends_with(char::is_whitespace) => break,
                _ => end = offset + c.len_utf8(),
            }
        }
        let text = rest[..end].trim_end();
        if text.is_empty() {
            return Err(self.unexpected("a quantity belongs here"));
        }
        let start = self.at;
        self.at += end;
        Ok(Argument { name: None, text, at: start..start + text.len() })
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn unexpected(&self, hint: &str) -> UnitError {
        let rest = self.text[self.at..].trim_end();
        let error = if rest.is_empty() {
            UnitError::new("the law ends too early").at(self.text.len()..self.text.len())
        } else {
            UnitError::new(format!("`{rest}` was not expected")).at(self.at..self.at + rest.len())
        };
        error.hint(hint)
    }
}

/// Arguments by parameter, whether they came by name or by place.
fn in_order<'a, 't>(
    name: &str,
    parameters: &[&str],
    whole: &Range<usize>,
    arguments: &'a [Argument<'t>],
) -> Result<Vec<&'a Argument<'t>>, UnitError> {
    let usage = |message: String, at: Range<usize>| {
        UnitError::new(message).hint(format!("as in `{}`", example(name))).at(at)
    };
    let mut slots: Vec<Option<&Argument<'t>>> = vec![None; parameters.len()];
    for (place, argument) in arguments.iter().enumerate() {
        let index = match argument.name {
            Some(given) => parameters
                .iter()
                .position(|parameter| *parameter == given)
                .ok_or_else(|| usage(format!("`{name}` has no parameter `{given}`"), argument.at.clone()))?,
            None if place < parameters.len() => place,
            None => {
                return Err(usage(
                    format!("`{name}` takes no more than {}", parameters.join(", ")),
                    argument.at.clone(),
                ));
            }
        };
        if slots[index].replace(argument).is_some() {
            return Err(usage(format!("{} is given twice", parameters[index]), argument.at.clone()));
        }
    }
    let missing = slots.iter().position(Option::is_none);
    if let Some(index) = missing {
        return Err(usage(format!("`{name}` needs {}", parameters[index]), whole.clone()));
    }
    Ok(slots.into_iter().flatten().collect())
}

/// How a law is written, for hints.
fn example(name: &str) -> &'static str {
    match name {
        "exp" => "exp(5ms)",
        "uniform" => "uniform(0s, 2s)",
        "erlang" => "erlang(10ms, k=3)",
        "gamma" => "gamma(10ms, cv=2)",
        "lognormal" => "lognormal(5ms, cv=1.5)",
        "weibull" => "weibull(10ms, shape=0.7)",
        "pareto" => "pareto(2ms, alpha=1.5)",
        "bounded-pareto" => "bounded-pareto(1ms, 10s, alpha=1.5)",
        "hyperexp" => "hyperexp(10ms, cv=2)",
        "normal" => "normal(10ms, sd=1ms)",
        "file" => "file(data/x.csv:column, unit=ms)",
        "empirical" => "empirical(data/x.csv:column, unit=ms)",
        "buckets" => "buckets(latency.json)",
        _ => "mix(80%: exp(5ms), 20%: exp(500ms))",
    }
}

/// The values of one column of a CSV file.
fn empirical(
    path: &str,
    column: &str,
    written: String,
    content: &[u8],
    unit: Option<f64>,
    dimension: Dimension,
) -> Result<Law, UnitError> {
    let parse = |text: &str| match (unit, dimension) {
        (Some(unit), _) => units::parse_number(text).map(|number| number * unit),
        (None, Dimension::Time) => units::parse_duration_ns(text),
        (None, Dimension::Bytes) => units::parse_bytes(text).map(|bytes| bytes as f64),
        (None, Dimension::Number) => units::parse_number(text),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(content);
    let headers =
        reader.headers().map_err(|error| UnitError::new(format!("{path} is not a CSV file: {error}")))?;
    let Some(index) = headers.iter().position(|name| name == column) else {
        let known = headers.iter().collect::<Vec<_>>().join(", ");
        return Err(UnitError::new(format!("{path} has no column `{column}`"))
            .hint(format!("its columns are: {known}")));
    };
    let mut values = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| UnitError::new(format!("{path} is not a CSV file: {error}")))?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(index).unwrap_or_default();
        let value = parse(text).map_err(|error| {
            let hint = match unit {
                None if units::parse_number(text).is_ok() => {
                    Some(format!("say what the column counts, as in `{}`", example("file")))
                }
                _ => error.hint.filter(|_| !text.is_empty()),
            };
            UnitError { message: format!("{path}, line {line}: {}", error.message), hint, at: None }
        })?;
        values.push(value);
    }
    if values.is_empty() {
        return Err(UnitError::new(format!("{path} has no rows")));
    }
    Ok(Law::Empirical(Arc::new(Empirical { written, values: values.into() })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::law::no_files;

    fn time(text: &str) -> Result<Law, UnitError> {
        Law::parse(text, Dimension::Time, &mut |name| {
            match name {
            "data/x.csv" => Ok(b"# measured\nlatency_ms,size\n1,10\n2.5,20\n4,30\n".to_vec()),
            "bad.csv" => Ok(b"latency_ms\n1\nfast\n".to_vec()),
            "latency.json" => Ok(br#"[{"le": 0.1, "count": 50}, {"le": "0.2", "count": 75}, {"le": "+Inf", "count": "100"}]"#.to_vec()),
            "plain.json" => Ok(br#"{"0.25": 200, "0.1": 100, "+Inf": 201}"#.to_vec()),
            "bare.json" => Ok(br#"{"0.1": 100}"#.to_vec()),
            "range.json" => Ok(br#"{"data": {"result": [{"metric": {"le": "1"}, "values": [[1, "2"]]}]}}"#.to_vec()),
            "failed.json" => Ok(br#"{"status": "error", "error": "parse error: unexpected end"}"#.to_vec()),
            "word.json" => Ok(br#"{"0.1": "many", "+Inf": 3}"#.to_vec()),
            "zero.json" => Ok(br#"{"0.1": 0, "+Inf": 0}"#.to_vec()),
            "empty.json" => Ok(b" ".to_vec()),
            "metrics.txt" => Ok(b"# HELP t_seconds latency\n# TYPE t_seconds histogram\n\
                t_seconds_bucket{path=\"/\",le=\"0.1\"} 24054\nt_seconds_bucket{path=\"/\",le=\"0.2\"} 33444 1395066363000\n\
                t_seconds_bucket{path=\"/\",le=\"+Inf\"} 33444\nt_seconds_sum{path=\"/\"} 53423\nt_seconds_count{path=\"/\"} 33444\n".to_vec()),
            "two.txt" => Ok(b"a_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\nb_bucket{le=\"1\"} 1\n".to_vec()),
            "query.json" => Ok(br#"{"status": "success", "data": {"resultType": "vector", "result": [
                {"metric": {"le": "0.2", "pod": "a"}, "value": [1, "70"]}, {"metric": {"le": "0.1", "pod": "a"}, "value": [1, "40"]},
                {"metric": {"le": "0.1", "pod": "b"}, "value": [1, "10"]}, {"metric": {"le": "0.2", "pod": "b"}, "value": [1, "30"]},
                {"metric": {"le": "+Inf", "pod": "b"}, "value": [1, "30"]}, {"metric": {"le": "+Inf", "pod": "a"}, "value": [1, "70"]}]}}"#
                .to_vec()),
            "fall.json" => Ok(br#"[{"le": 0.1, "count": 50}, {"le": 0.2, "count": 40}, {"le": "+Inf", "count": 60}]"#.to_vec()),
            _ => Err(UnitError::new(format!("{name} does not exist"))),
        }
        })
    }

    #[test]
    fn fits_where_it_is_needed() {
        assert!(size_of::<Law>() <= 32);
    }

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "12ms",
            "0s",
            "90s",
            "1.5s",
            "2h",
            "0.333ns",
            "exp(12ms)",
            "uniform(0s, 2s)",
            "erlang(10ms, k=3)",
            "gamma(10ms, cv=2)",
            "lognormal(5ms, cv=1.5)",
            "weibull(10ms, shape=0.7)",
            "pareto(2ms, alpha=1.5)",
            "bounded-pareto(1ms, 10s, alpha=1.5)",
            "hyperexp(10ms, cv=2)",
            "normal(10ms, sd=1ms)",
            "file(data/x.csv:latency_ms)",
            "file(data/x.csv:size, unit=us)",
            "buckets(latency.json, top=1s)",
            "buckets(query.json)",
            "buckets(plain.json, unit=ms, top=1s)",
            "buckets(metrics.txt)",
            "buckets(two.txt, metric=a)",
            "mix(80%: exp(5ms), 20%: exp(500ms))",
            "mix(33.3%: exp(5ms) + 1ms, 66.7%: mix(10%: 1s, 90%: 2s))",
            "lognormal(5ms, cv=1) + 2ms",
            "gamma(10ms, cv=2) x 1.5",
            "gamma(10ms, cv=2) x 1.5 + 2ms",
        ] {
            let law = time(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let written = law.to_string();
            assert_eq!(written, if text == "0.333ns" { "0.333ns" } else { text });
            assert_eq!(time(&written), Ok(law), "{text}");
        }
    }

    #[test]
    fn shifts_and_scales_from_left_to_right() {
        assert_eq!(time("10ms + 2ms x 3"), Ok(Law::Constant(36e6)));
        assert_eq!(time("10ms x 3 + 2ms"), Ok(Law::Constant(32e6)));
        assert_eq!(time("exp(10ms) x 0.5"), Ok(Law::Exponential(5e6)));
        assert_eq!(
            time(" gamma( 10ms ,cv = 2 )+1ms x 2").unwrap().to_string(),
            "gamma(10ms, cv=2) x 2 + 2ms"
        );
        assert_eq!(Law::parse("1e+3", Dimension::Number, &mut no_files), Ok(Law::Constant(1000.0)));
        assert_eq!(Law::parse("exp(2KiB) + 1KiB", Dimension::Bytes, &mut no_files).unwrap().mean(), 3072.0);
    }

    #[test]
    fn files_and_buckets_have_the_right_mean() {
        assert_eq!(time("file(data/x.csv:latency_ms)").unwrap().mean(), 2.5e6);
        assert_eq!(time("file(data/x.csv:size, unit=s)").unwrap().mean(), 20e9);
        // 50 % in 0..0.1 s, 25 % in 0.1..0.2 s, the rest up to `top`.
        let mean = time("buckets(latency.json, top=1s)").unwrap().mean();
        assert_eq!(mean, 0.5 * 50e6 + 0.25 * 150e6 + 0.25 * 600e6);
        // Less than 1 % above the highest finite bound lies on it.
        let mean = time("buckets(plain.json)").unwrap().mean();
        assert!((mean - (100.0 * 50e6 + 100.0 * 175e6 + 250e6) / 201.0).abs() < 1.0);
        let mean = time("buckets(metrics.txt)").unwrap().mean();
        assert!((mean - (24054.0 * 50e6 + 9390.0 * 150e6) / 33444.0).abs() < 1.0);
        assert_eq!(time("buckets(query.json)").unwrap().mean(), 0.5 * 50e6 + 0.5 * 150e6);
    }

    /// `histogram_quantile` on the same buckets: rank q n, linear inside the bucket that holds it.
    #[test]
    fn bucket_quantiles_are_those_of_prometheus() {
        let law = time("buckets(metrics.txt)").unwrap();
        let mut stream = crate::random::Stream::new(7, "test", "buckets");
        let mut samples: Vec<f64> = (0..40_000).map(|_| law.sample(&mut stream)).collect();
        samples.sort_by(f64::total_cmp);
        for (q, expected) in [(0.5, 0.1 * 16722.0 / 24054.0), (0.9, 0.1 + 0.1 * (30099.6 - 24054.0) / 9390.0)]
        {
            let found = samples[(q * 40_000.0) as usize] / 1e9;
            assert!((found - expected).abs() < 0.002, "{q}: {found}, not {expected}");
        }
    }

    #[test]
    fn refuses_with_a_place_and_a_hint() {
        let texts = [
            "5",
            "exp(5)",
            "exp",
            "exp(",
            "exp(5ms",
            "expo(5ms)",
            "zipf(3)",
            "exp(5ms, 3ms)",
            "gamma(5ms)",
            "gamma(5ms, sd=2)",
            "gamma(5ms, cv=2, cv=3)",
            "gamma(5ms, cv=-2)",
            "gamma(5ms, cv=nan)",
            "uniform(2s, 1s)",
            "hyperexp(1ms, cv=0.5)",
            "erlang(1ms, k=2.5)",
            "pareto(0s, alpha=1)",
            "exp(5ms) 3",
            "exp(5ms) + 3",
            "exp(5ms) x 2ms",
            "exp(5ms) x",
            "mix(80%: exp(5ms))",
            "mix(exp(5ms))",
            "mix(80%: exp(5ms) 20%: 3ms, 20%: 1s)",
            "file(data/x.csv)",
            "file(data/x.csv:latency)",
            "file(data/x.csv:size)",
            "file(bad.csv:latency_ms)",
            "file(none.csv:x)",
            "file(data/x.csv:size, unit=parsec)",
            "buckets(fall.json)",
            "buckets(latency.json)",
            "buckets(latency.json, top=150ms)",
            "buckets(bare.json)",
            "buckets(range.json)",
            "buckets(failed.json)",
            "buckets(word.json)",
            "buckets(zero.json)",
            "buckets(empty.json)",
            "buckets(two.txt)",
            "buckets(metrics.txt, metric=other)",
            "buckets(latency.json, tail=3s)",
            "buckets(data/x.csv)",
            "exp(1e300s)",
            "-5ms",
            "",
            "exp(5ms))",
        ];
        let report = texts.map(|text| {
            let error = time(text).expect_err(text);
            let at = error.at.clone().unwrap_or(0..text.len());
            format!("{text}\n{}{}\n{error}\n", " ".repeat(at.start), "^".repeat(at.len().max(1)))
        });
        insta::assert_snapshot!(report.join("\n"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "[a-z0-9%(),.:=+x -]{0,30}") {
            let _ = time(&text);
        }
    }
}
