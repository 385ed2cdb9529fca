use super::condition::{EVENT_TYPES, Matching, Operand};
use super::*;
use crate::detection::engine::CompiledRule;
use crate::detection::functions::Type;
use crate::detection::rules::{load_dir, load_text};
use crate::proto::common::{EventType, ProcessEvent, ProcessRecord};
use std::path::Path;

fn event(event_type: EventType, process: ProcessRecord) -> IdentifiedEvent {
    let event = ProcessEvent { event_type: event_type.into(), event_time: 1, process: Some(process) };
    IdentifiedEvent { event_id: "e-1".to_owned(), event: event.into() }
}

fn command(line: &str) -> IdentifiedEvent {
    let process =
        ProcessRecord { name: Some("x".to_owned()), command_line: Some(line.to_owned()), ..ProcessRecord::default() };
    event(EventType::Exec, process)
}

fn rules(conditions: &[&str]) -> Vec<Arc<CompiledRule>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rule = |condition: &&str| {
        let text = format!(
            "id = \"r\"\ntitle = \"T\"\nseverity = \"low\"\nsql = '''SELECT pid FROM processes.events WHERE {condition}'''\n"
        );
        runtime.block_on(load_text(Path::new("r.toml"), &text, "")).unwrap()
    };
    conditions.iter().map(rule).collect()
}

fn screen(rules: &[Arc<CompiledRule>]) -> Screen {
    let screened = rules.iter().enumerate().filter_map(|(place, rule)| Some((place, rule.standing()?.screened())));
    let mut screens = Screen::all(screened);
    assert_eq!(screens.len(), 1);
    screens.remove(0)
}

/// The places of the rules that may be true of the event.
fn wanted(screen: &Screen, event: &IdentifiedEvent) -> Vec<usize> {
    let asked = screen.ask(&[event], |_| true);
    let mut places: Vec<_> = asked.iter().filter(|asked| !asked.wanted.is_empty()).map(|asked| asked.rule).collect();
    places.sort_unstable();
    places
}

/// How many rules the event wakes.
fn woken(screen: &Screen, event: &IdentifiedEvent) -> usize {
    let mut look = Look::at(screen);
    look.next(event);
    std::iter::from_fn(|| look.woken()).count()
}

#[test]
fn no_shipped_rule_leaves_the_everyday_to_the_engine() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rules = runtime.block_on(load_dir(&directory)).unwrap().rules;
    assert!(rules.iter().filter(|rule| rule.standing().is_some()).count() >= 40);
    let screen = screen(&rules);
    let process = ProcessRecord {
        name: Some("ls".to_owned()),
        executable_path: Some("/usr/bin/ls".to_owned()),
        command_line: Some("ls -l /srv".to_owned()),
        parent_name: Some("bash".to_owned()),
        parent_command_line: Some("bash".to_owned()),
        file_exists: Some(true),
        image_mismatch: Some(false),
        ..ProcessRecord::default()
    };
    for event_type in EVENT_TYPES {
        let event = event(event_type, process.clone());
        let left: Vec<_> = wanted(&screen, &event).into_iter().map(|place| &rules[place].rule.id).collect();
        assert_eq!(left, [""; 0], "{event_type:?}");
    }
}

#[test]
fn only_rules_whose_rarest_text_occurs_are_asked() {
    let rules = rules(&[
        "command_line LIKE '%xmrig%'",
        "name = 'x' AND command_line LIKE '%/etc/shadow%'",
        "command_line LIKE '%curl%' OR command_line REGEXP 'wget +http'",
        "name IN ('nc', 'ncat')",
        "command_line NOT LIKE '%safe%'",
        "pid = 7 AND command_line GLOB '*XMRig*'",
    ]);
    let screen = screen(&rules);
    for (line, asked, expected) in [
        ("ls", 1, &[4][..]),
        ("ls safe", 1, &[]),
        ("XMRIG safe", 2, &[0]),
        ("cat /ETC/shadow", 2, &[1, 4]),
        ("wget http", 2, &[2, 4]),
        ("wget ftp", 2, &[4]),
        ("a wget  https://x curl safe", 2, &[2]),
        ("XMRig safe", 3, &[0]),
    ] {
        assert_eq!(wanted(&screen, &command(line)), expected, "{line}");
        assert_eq!(woken(&screen, &command(line)), asked, "{line}");
    }
}

#[test]
fn what_is_null_is_neither_found_nor_missed() {
    let rules = rules(&[
        "NOT (command_line LIKE '%ab%')",
        "command_line LIKE '%ab%' OR pid = 0",
        "NOT (command_line IN ('ab', 'cd'))",
        "command_line IS NULL",
    ]);
    let screen = screen(&rules);
    let none = event(EventType::Exec, ProcessRecord::default());
    assert_eq!(wanted(&screen, &none), [1, 3]);
    assert_eq!(wanted(&screen, &command("x")), [0, 1, 2]);
}

#[test]
fn patterns_beyond_the_allowance_are_left_to_the_engine_where_what_they_need_occurs() {
    let allowance = Allowance::of(10);
    assert!(allowance.take(4) && !allowance.take(7) && allowance.take(6) && !allowance.take(1));
    let (table, function) = (Table::ProcessEvents, "__regexp");
    let column = table.columns().iter().position(|(name, _)| *name == "command_line").unwrap();
    let matching = Matching { function, texts: vec!["^wget +http".to_owned()], escape: None, pattern: None };
    let leaf = Leaf::Matches(Operand::Column(column, Type::Text), matching);
    let screened = Screened { table, types: u8::MAX, condition: Condition::Is(Arc::new(leaf)) };
    let screen = Screen::all([(0, &screened)]).remove(0);
    assert_eq!(wanted(&screen, &command("curl http")), [0; 0]);
    assert_eq!(wanted(&screen, &command("wget ftp")), [0]);
}
