//! What a Sigma document says, before it is known what that means here.

use super::modifiers::Modifiers;
use super::problem::{Place, SigmaProblem, shortened};
use super::yaml::{Content, Node, Value};

/// The longest title, in bytes.
const MAX_TITLE: usize = 1_000;
/// The longest other text about a rule.
const MAX_TEXT: usize = 16 << 10;
/// The most entries of a list about a rule.
const MAX_LIST: usize = 200;

/// What is known about a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) author: String,
    pub(super) level: Option<String>,
    pub(super) status: String,
    pub(super) license: String,
    pub(super) date: String,
    pub(super) modified: String,
    pub(super) tags: Vec<String>,
    pub(super) references: Vec<String>,
    pub(super) false_positives: Vec<String>,
}

/// Where events come from.
#[derive(Clone, Debug)]
pub(super) struct LogSource {
    pub(super) place: Place,
    pub(super) category: String,
    pub(super) product: Option<String>,
}

/// What a rule looks for.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    pub(super) selections: Vec<(String, Selection)>,
    /// One of them must hold.
    pub(super) conditions: Vec<(String, Place)>,
}

#[derive(Clone, Debug)]
pub(super) enum Selection {
    /// Each item is met.
    All(Vec<Item>),
    /// One of them holds.
    Any(Vec<Self>),
    /// One of the values is anywhere in the event.
    Keywords(Vec<(Value, Place)>),
}

/// A field with its values.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    /// Absent for keywords.
    pub(super) field: Option<String>,
    pub(super) modifiers: Modifiers,
    pub(super) values: Vec<(Value, Place)>,
}

/// Reads what a document says about itself.
pub(super) fn about(document: &Node) -> Result<About, SigmaProblem> {
    let text = |key: &str| text(document, key, MAX_TEXT);
    let title = self::text(document, "title", MAX_TITLE)?
        .filter(|title| !title.trim().is_empty())
        .ok_or_else(|| document.problem("the rule has no `title`"))?;
    if let Some(taxonomy) = text("taxonomy")?.filter(|taxonomy| taxonomy != "sigma") {
        let problem = document.problem(format!("the taxonomy `{}` is not supported", shortened(&taxonomy)));
        return Err(problem.hint("its fields mean something else than those of the taxonomy sigma"));
    }
    Ok(About {
        id: text("id")?,
        name: text("name")?,
        title: title.split_whitespace().collect::<Vec<_>>().join(" "),
        description: text("description")?.unwrap_or_default(),
        author: text("author")?.unwrap_or_default(),
        level: text("level")?,
        status: text("status")?.unwrap_or_default(),
        license: text("license")?.unwrap_or_default(),
        date: text("date")?.unwrap_or_default(),
        modified: text("modified")?.unwrap_or_default(),
        tags: texts(document, "tags")?,
        references: texts(document, "references")?,
        false_positives: texts(document, "falsepositives")?,
    })
}

/// A text of a map; none where it is missing or null.
pub(super) fn text(map: &Node, key: &str, most: usize) -> Result<Option<String>, SigmaProblem> {
    let Some(node) = map.get(key) else { return Ok(None) };
    let Content::Scalar(scalar) = &node.content else {
        return Err(node.problem(format!("`{key}` is {}, and should be a text", node.kind())));
    };
    if scalar.value() == Value::Null {
        return Ok(None);
    }
    if scalar.text.len() > most {
        return Err(node.problem(format!("`{key}` has {} bytes; {most} are allowed", scalar.text.len())));
    }
    Ok(Some(scalar.text.clone()))
}

/// A list of texts; one text counts as a list of one.
pub(super) fn texts(map: &Node, key: &str) -> Result<Vec<String>, SigmaProblem> {
    let Some(node) = map.get(key) else { return Ok(Vec::new()) };
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.len() > MAX_LIST {
        return Err(node.problem(format!("`{key}` has {} entries; {MAX_LIST} are allowed", items.len())));
    }
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match &item.content {
            Content::Scalar(scalar) if scalar.value() == Value::Null => {}
            Content::Scalar(scalar) if scalar.text.len() <= MAX_TEXT => texts.push(scalar.text.clone()),
            Content::Scalar(scalar) => {
                let message = format!("`{key}` has an entry of {} bytes; {MAX_TEXT} are allowed", scalar.text.len());
                return Err(item.problem(message));
            }
            _ => {
                return Err(
                    item.problem(format!("`{key}` has {} among its entries, which should be texts", item.kind()))
                );
            }
        }
    }
    Ok(texts)
}

/// Reads where events come from.
pub(super) fn log_source(document: &Node) -> Result<LogSource, SigmaProblem> {
    let node = document.get("logsource").ok_or_else(|| document.problem("the rule has no `logsource`"))?;
    if !matches!(node.content, Content::Map(_)) {
        return Err(node.problem("`logsource` should be a map"));
    }
    let of = |key| text(node, key, MAX_TITLE);
    if let Some(service) = of("service")? {
        let problem = node.problem(format!("the log source service `{}` is not watched", shortened(&service)));
        return Err(problem.hint("log sources with a category are, such as process_creation"));
    }
    let category = of("category")?.ok_or_else(|| node.problem("the log source has no `category`"))?;
    Ok(LogSource { place: node.place, category, product: of("product")? })
}

/// Reads what a rule looks for.
pub(super) fn detection(document: &Node) -> Result<Detection, SigmaProblem> {
    let node = document.get("detection").ok_or_else(|| document.problem("the rule has no `detection`"))?;
    let Content::Map(entries) = &node.content else { return Err(node.problem("`detection` should be a map")) };
    let mut detection = Detection { selections: Vec::new(), conditions: Vec::new() };
    for (name, inner) in entries {
        match name.as_str() {
            "condition" => {
                let several = match &inner.content {
                    Content::List(items) => items.as_slice(),
                    _ => std::slice::from_ref(inner),
                };
                for one in several {
                    let Content::Scalar(scalar) = &one.content else {
                        return Err(one.problem(format!("`condition` is {}, and should be a text", one.kind())));
                    };
                    detection.conditions.push((scalar.text.clone(), one.place));
                }
            }
            "timeframe" => {
                let problem = inner.problem("`timeframe` in a detection is not supported");
                return Err(problem.hint("write a correlation rule, which has taken its place in Sigma"));
            }
            _ => detection.selections.push((name.clone(), selection(inner)?)),
        }
    }
    if detection.conditions.is_empty() {
        return Err(node.problem("the detection has no `condition`"));
    }
    Ok(detection)
}

fn selection(node: &Node) -> Result<Selection, SigmaProblem> {
    match &node.content {
        Content::Scalar(scalar) => Ok(Selection::Keywords(vec![(scalar.value(), node.place)])),
        Content::List(items) if items.is_empty() => Err(node.problem("the selection is empty")),
        Content::List(items) => {
            let keywords: Option<Vec<_>> = items
                .iter()
                .map(|item| match &item.content {
                    Content::Scalar(scalar) => Some((scalar.value(), item.place)),
                    _ => None,
                })
                .collect();
            match keywords {
                Some(keywords) => Ok(Selection::Keywords(keywords)),
                None => Ok(Selection::Any(items.iter().map(selection).collect::<Result<_, _>>()?)),
            }
        }
        Content::Map(entries) if entries.is_empty() => Err(node.problem("the selection is empty")),
        Content::Map(entries) => {
            let items = entries.iter().map(|(key, inner)| item(key, inner)).collect::<Result<_, _>>()?;
            Ok(Selection::All(items))
        }
    }
}

fn item(key: &str, node: &Node) -> Result<Item, SigmaProblem> {
    let mut words = key.split('|');
    let field = words.next().filter(|field| !field.is_empty()).map(str::to_owned);
    let modifiers = Modifiers::parse(words).map_err(|problem| problem.at(node.place))?;
    let value = |node: &Node| match &node.content {
        Content::Scalar(scalar) => Ok((scalar.value(), node.place)),
        _ => Err(node.problem(format!("`{}` has {} among its values", shortened(key), node.kind()))),
    };
    let values = match &node.content {
        Content::List(items) if items.is_empty() => {
            return Err(node.problem(format!("`{}` has an empty list of values", shortened(key))));
        }
        Content::List(items) => items.iter().map(value).collect::<Result<_, _>>()?,
        _ => vec![value(node)?],
    };
    Ok(Item { place: node.place, field, modifiers, values })
}
