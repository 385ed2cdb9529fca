//! From selections and conditions to conditions in SQL.

use super::condition::{Condition, Count, parse};
use super::encode::{base64, base64_offsets, utf16, windash, windash_regex};
use super::expr::{Expr, function, literal};
use super::fields::{Kind, Operand, Source};
use super::modifiers::{Base64, Modifiers, Test, Utf16};
use super::pattern::{How, Part, Shape, glob, parts, plain, regex, shape};
use super::problem::{Place, SigmaProblem, shortened};
use super::rule::{Detection, Item, Selection};
use super::yaml::Value;
use crate::models::network::Network;

/// The most forms of a value that are written one by one.
const MAX_FORMS: usize = 125;

/// The condition of a rule.
pub(super) fn lower(detection: &Detection, source: Source) -> Result<Expr, SigmaProblem> {
    let lowerer = Lowerer { source };
    let mut selections = Vec::with_capacity(detection.selections.len());
    for (name, selection) in &detection.selections {
        let expr = lowerer.selection(selection).map_err(|problem| SigmaProblem {
            message: format!("{} (selection `{}`)", problem.message, shortened(name)),
            ..problem
        })?;
        selections.push((name.as_str(), expr));
    }
    let mut either = Vec::with_capacity(detection.conditions.len());
    for (text, place) in &detection.conditions {
        let condition = parse(text).and_then(|condition| combine(&condition, &selections));
        either.push(condition.map_err(|problem| problem.at(*place))?);
    }
    Ok(Expr::any(either))
}

/// What a condition says of named selections.
pub(super) fn combine(condition: &Condition, selections: &[(&str, Expr)]) -> Result<Expr, SigmaProblem> {
    let several =
        |terms: &[Condition]| terms.iter().map(|term| combine(term, selections)).collect::<Result<Vec<_>, _>>();
    Ok(match condition {
        Condition::Name(name) => match selections.iter().find(|(own, _)| own == name) {
            Some((_, expr)) => expr.clone(),
            None => {
                let problem =
                    SigmaProblem::new(format!("the condition names `{}`, which is no selection", shortened(name)));
                return Err(match super::fields::nearest(name, selections.iter().map(|(own, _)| *own)) {
                    Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                    None => problem,
                });
            }
        },
        Condition::And(terms) => Expr::all(several(terms)?),
        Condition::Or(terms) => Expr::any(several(terms)?),
        Condition::Not(inner) => combine(inner, selections)?.not(),
        Condition::Of(count, names) => {
            let chosen = selections.iter().filter(|(name, _)| names.fit(name));
            let chosen: Vec<Expr> = chosen.map(|(_, expr)| expr.clone()).collect();
            match count {
                _ if chosen.is_empty() => {
                    return Err(SigmaProblem::new("the condition counts selections that are not there"));
                }
                Count::All => Expr::all(chosen),
                Count::AtLeast(1) => Expr::any(chosen),
                Count::AtLeast(0) => return Err(SigmaProblem::new("`0 of` is always true")),
                Count::AtLeast(count) if *count > chosen.len() => {
                    let message = format!("the condition wants {count} of {} selections", chosen.len());
                    return Err(SigmaProblem::new(message));
                }
                Count::AtLeast(count) => Expr::AtLeast(*count, chosen),
            }
        }
    })
}

struct Lowerer {
    source: Source,
}

impl Lowerer {
    fn selection(&self, selection: &Selection) -> Result<Expr, SigmaProblem> {
        Ok(match selection {
            Selection::All(items) => Expr::all(items.iter().map(|item| self.item(item)).collect::<Result<_, _>>()?),
            Selection::Any(inner) => Expr::any(inner.iter().map(|one| self.selection(one)).collect::<Result<_, _>>()?),
            Selection::Keywords(values) => {
                let keywords = Modifiers { test: Test::Text(How::Contains), ..Modifiers::default() };
                Expr::any(self.values(None, &keywords, values)?)
            }
        })
    }

    fn item(&self, item: &Item) -> Result<Expr, SigmaProblem> {
        let mut modifiers = item.modifiers.clone();
        let operand = match &item.field {
            Some(name) => Some(self.source.field(name).map_err(|problem| problem.at(item.place))?),
            None => {
                // A keyword is anywhere in the event.
                if let Test::Text(How::Equals) = modifiers.test {
                    modifiers.test = Test::Text(How::Contains);
                }
                if !matches!(modifiers.test, Test::Text(_) | Test::Regex { .. }) || modifiers.fieldref {
                    return Err(SigmaProblem::new("this modifier needs a field before it").at(item.place));
                }
                None
            }
        };
        if let (Test::Exists, Some(operand)) = (modifiers.test, &operand) {
            return exists(operand, &item.values).map_err(|problem| problem.at(item.place));
        }
        let terms = self.values(operand.as_ref(), &modifiers, &item.values)?;
        let met = if modifiers.all { Expr::all(terms) } else { Expr::any(terms) };
        Ok(if modifiers.neq { met.not() } else { met })
    }

    /// What each value asks of the field, or of the event where there is none.
    fn values(
        &self,
        operand: Option<&Operand>,
        modifiers: &Modifiers,
        values: &[(Value, Place)],
    ) -> Result<Vec<Expr>, SigmaProblem> {
        let everywhere;
        let operands = match operand {
            Some(operand) => std::slice::from_ref(operand),
            None => {
                everywhere = self.source.keyword_operands();
                everywhere.as_slice()
            }
        };
        let mut terms = Vec::with_capacity(values.len());
        for (value, place) in values {
            let mut either = Vec::with_capacity(operands.len());
            for operand in operands {
                either.push(self.value(operand, modifiers, value).map_err(|problem| problem.at(*place))?);
            }
            terms.push(Expr::any(either));
        }
        Ok(terms)
    }

    fn value(&self, operand: &Operand, modifiers: &Modifiers, value: &Value) -> Result<Expr, SigmaProblem> {
        if modifiers.fieldref {
            return self.reference(operand, modifiers, value);
        }
        match modifiers.test {
            Test::Regex { ignore_case, multi_line, dot_all } => {
                let flags: String = [(ignore_case, 'i'), (multi_line, 'm'), (dot_all, 's')]
                    .into_iter()
                    .filter_map(|(is_set, flag)| is_set.then_some(flag))
                    .collect();
                let pattern = as_text(value, "a regular expression")?;
                let pattern = if flags.is_empty() { pattern } else { format!("(?{flags}){pattern}") };
                matching(operand, pattern)
            }
            Test::Network => {
                let network = as_text(value, "a network")?;
                network.parse::<Network>().map_err(SigmaProblem::new)?;
                Ok(Expr::Sql(format!("cidr_match({}, {})", operand.sql, literal(&network))))
            }
            Test::Compare(operator) => {
                let number = match value {
                    Value::Integer(number) => number.to_string(),
                    Value::Real(number) => format!("{number:?}"),
                    other => {
                        let text = as_text(other, "a number")?;
                        let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite());
                        let number = number.ok_or_else(|| {
                            SigmaProblem::new(format!("`{}` is compared with and is no number", shortened(&text)))
                        })?;
                        format!("{number:?}")
                    }
                };
                Ok(Expr::Sql(format!("{} {operator} {number}", as_number(operand)?)))
            }
            Test::Time(part) => {
                let (Value::Integer(number), Kind::Time) = (value, operand.kind) else {
                    return Err(SigmaProblem::new(
                        "a part of a time is compared with whole numbers, and of UtcTime alone",
                    ));
                };
                Ok(Expr::Sql(format!("CAST(strftime('{part}', {}) AS INTEGER) = {number}", operand.sql)))
            }
            Test::Text(how) => match value {
                Value::Null => Ok(Expr::Given(operand.clone(), false)),
                Value::Boolean(truth) => {
                    let words = if *truth { ["true", "1", "yes"] } else { ["false", "0", "no"] };
                    Ok(Expr::Text(How::Equals, operand.clone(), words.map(str::to_owned).to_vec()))
                }
                Value::Integer(number) if is_bare(modifiers) => {
                    Ok(Expr::Sql(format!("{} = {number}", as_number(operand)?)))
                }
                Value::Real(number) if is_bare(modifiers) => {
                    Ok(Expr::Sql(format!("{} = {number:?}", as_number(operand)?)))
                }
                Value::Integer(number) => text(operand, modifiers, how, &number.to_string()),
                Value::Real(number) => text(operand, modifiers, how, &number.to_string()),
                Value::Text(value) => text(operand, modifiers, how, value),
            },
            Test::Exists => Err(SigmaProblem::new("`exists` needs a field before it")),
        }
    }

    /// A comparison with another field.
    fn reference(&self, operand: &Operand, modifiers: &Modifiers, value: &Value) -> Result<Expr, SigmaProblem> {
        let name = as_text(value, "the name of a field")?;
        let parts = parts(&name);
        let name = plain(&parts).ok_or_else(|| SigmaProblem::new("the name of a field has no wildcards"))?;
        let other = self.source.field(name)?;
        let Test::Text(how) = modifiers.test else { return Err(SigmaProblem::new("`fieldref` compares texts")) };
        let (own, other) = (&operand.sql, &other.sql);
        Ok(Expr::Sql(match (modifiers.cased, how) {
            (false, _) => format!("{}({own}, {other})", function(how)),
            (true, How::Equals) => format!("CAST({own} AS TEXT) = CAST({other} AS TEXT)"),
            (true, How::Contains) => format!("instr({own}, {other}) > 0"),
            (true, How::StartsWith) => format!("substr({own}, 1, length({other})) = CAST({other} AS TEXT)"),
            (true, How::EndsWith) => {
                format!("substr({own}, length({own}) - length({other}) + 1) = CAST({other} AS TEXT)")
            }
        }))
    }
}

/// Whether a number is to be compared as one.
fn is_bare(modifiers: &Modifiers) -> bool {
    modifiers.test == Test::Text(How::Equals) && modifiers.base64.is_none() && !modifiers.expand
}

fn exists(operand: &Operand, values: &[(Value, Place)]) -> Result<Expr, SigmaProblem> {
    let wrong = || SigmaProblem::new("`exists` wants true or false");
    let [(value, _)] = values else { return Err(wrong()) };
    let given = match value {
        Value::Boolean(given) => *given,
        Value::Text(text) if text == "true" || text == "yes" => true,
        Value::Text(text) if text == "false" || text == "no" => false,
        _ => return Err(wrong()),
    };
    Ok(Expr::Given(operand.clone(), given))
}

fn as_text(value: &Value, what: &str) -> Result<String, SigmaProblem> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Real(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        Value::Null => Err(SigmaProblem::new(format!("null stands where {what} should"))),
    }
}

fn as_number(operand: &Operand) -> Result<String, SigmaProblem> {
    match operand.kind {
        Kind::Integer => Ok(operand.tight()),
        Kind::Text => Ok(format!("number({})", operand.sql)),
        Kind::Time => Err(SigmaProblem::new("a time is no number")),
    }
}

/// What a text asks of a field.
fn text(operand: &Operand, modifiers: &Modifiers, how: How, value: &str) -> Result<Expr, SigmaProblem> {
    let value_parts = parts(value);
    if modifiers.expand {
        return list(operand, modifiers, how, &value_parts);
    }
    if modifiers.base64.is_none() && modifiers.utf16.is_none() && !modifiers.windash {
        return compare(operand, modifiers.cased, shape(value_parts, how));
    }
    let Some(plain) = plain(&value_parts) else {
        return if modifiers.base64.is_none() && modifiers.utf16.is_none() {
            dashed(operand, modifiers, how, value_parts)
        } else {
            Err(SigmaProblem::new(format!("`{}` has wildcards, which cannot be encoded", shortened(value))))
        };
    };
    let forms = if modifiers.windash { windash(plain, MAX_FORMS) } else { Some(vec![plain.to_owned()]) };
    let Some(forms) = forms else {
        return if modifiers.base64.is_none() && modifiers.utf16.is_none() {
            dashed(operand, modifiers, how, value_parts)
        } else {
            Err(SigmaProblem::new(format!("`{}` has too many hyphens to be encoded", shortened(value))))
        };
    };
    let mut terms = Vec::with_capacity(forms.len());
    for form in forms {
        for encoded in encoded(&form, modifiers)? {
            let how = if modifiers.base64 == Some(Base64::Offset) { How::Contains } else { how };
            let parts = if encoded.is_empty() { Vec::new() } else { vec![Part::Text(encoded)] };
            terms.push(compare(operand, modifiers.cased, shape(parts, how))?);
        }
    }
    Ok(Expr::any(terms))
}

/// The forms of a text when it is encoded.
fn encoded(text: &str, modifiers: &Modifiers) -> Result<Vec<String>, SigmaProblem> {
    let bytes = match modifiers.utf16 {
        None => text.as_bytes().to_vec(),
        Some(Utf16::Little) => utf16(text, false),
        Some(Utf16::Big) => utf16(text, true),
        Some(Utf16::Marked) => [&[0xff, 0xfe], utf16(text, false).as_slice()].concat(),
    };
    Ok(match modifiers.base64 {
        Some(Base64::Whole) => vec![base64(&bytes)],
        Some(Base64::Offset) => base64_offsets(&bytes)
            .ok_or_else(|| SigmaProblem::new(format!("`{}` is too short to be found in Base64", shortened(text))))?
            .to_vec(),
        None => {
            let text = String::from_utf8(bytes).map_err(|_| {
                let problem = SigmaProblem::new("this text in UTF-16 is no text that a field could have");
                problem.hint("follow the modifier with base64 or base64offset")
            })?;
            vec![text]
        }
    })
}

/// A list of `lists.toml`.
fn list(operand: &Operand, modifiers: &Modifiers, how: How, parts: &[Part]) -> Result<Expr, SigmaProblem> {
    let text = plain(parts).ok_or_else(|| SigmaProblem::new("a placeholder beside wildcards is not supported"))?;
    let name = text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).filter(|name| !name.contains('%'));
    let name = name.map(|name| name.to_ascii_lowercase().replace(['-', ' ', '.'], "_"));
    let is_name = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= 128
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let Some(name) = name.filter(is_name) else {
        let problem = SigmaProblem::new(format!("`{}` is no placeholder alone", shortened(text)));
        return Err(problem.hint("with `expand` a value is %name%, which stands for the list `name` of lists.toml"));
    };
    if modifiers.cased {
        return Err(SigmaProblem::new("`expand` and `cased` together are not supported"));
    }
    Ok(Expr::List(how, operand.clone(), name))
}

/// A value in which hyphens may be other signs, where there are too many of them, or wildcards, to write each form.
fn dashed(operand: &Operand, modifiers: &Modifiers, how: How, parts: Vec<Part>) -> Result<Expr, SigmaProblem> {
    let mut regex = if modifiers.cased { "(?s)" } else { "(?is)" }.to_owned();
    if matches!(how, How::Equals | How::StartsWith) {
        regex.push('^');
    }
    for part in parts {
        match part {
            Part::Text(text) => regex.push_str(&windash_regex(&text)),
            Part::Any => regex.push_str(".*"),
            Part::One => regex.push('.'),
        }
    }
    if matches!(how, How::Equals | How::EndsWith) {
        regex.push('$');
    }
    matching(operand, regex)
}

fn compare(operand: &Operand, cased: bool, shape: Shape) -> Result<Expr, SigmaProblem> {
    Ok(match shape {
        Shape::Anything => Expr::Given(operand.clone(), true),
        Shape::Plain(How::Equals, text) if operand.kind == Kind::Integer => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Expr::Sql(format!("{} = {number}", operand.tight())),
            _ => Expr::Text(How::Equals, operand.clone(), vec![text]),
        },
        Shape::Plain(how, text) if !cased => Expr::Text(how, operand.clone(), vec![text]),
        Shape::Plain(How::Equals, text) => Expr::Sql(format!("{} = {}", operand.tight(), literal(&text))),
        Shape::Plain(how, text) => {
            let mut parts = vec![Part::Text(text)];
            if how != How::StartsWith {
                parts.insert(0, Part::Any);
            }
            if how != How::EndsWith {
                parts.push(Part::Any);
            }
            Expr::Sql(format!("{} GLOB {}", operand.tight(), literal(&glob(&parts))))
        }
        Shape::Parts(parts) if cased => Expr::Sql(format!("{} GLOB {}", operand.tight(), literal(&glob(&parts)))),
        Shape::Parts(parts) => matching(operand, regex(&parts))?,
    })
}

/// A regular expression, which must be one that is matched in linear time.
fn matching(operand: &Operand, pattern: String) -> Result<Expr, SigmaProblem> {
    regex::RegexBuilder::new(&pattern).size_limit(1 << 20).build().map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        SigmaProblem::new(format!("the regular expression `{}` is not supported: {last}", shortened(&pattern)))
    })?;
    Ok(Expr::Sql(format!("{} REGEXP {}", operand.tight(), literal(&pattern))))
}
