//! The documents name what exists, and what exists is named in them.

use std::fs;
use std::path::Path;
use testkit::workspace_root;

#[test]
fn every_link_between_documents_leads_somewhere() {
    let root = workspace_root();
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    for dir in ["docs", "docs/formats", "docs/decisions"] {
        let entries = fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let broken: Vec<_> = pages.iter().flat_map(|page| broken_links(page)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

fn broken_links(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter(|target| !page.parent().unwrap().join(target.split('#').next().unwrap()).exists())
        .map(|target| format!("{}: {target}", page.display()))
        .collect()
}

#[test]
fn every_page_is_in_the_summary() {
    let docs = workspace_root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for dir in ["", "formats/", "decisions/"] {
        for entry in fs::read_dir(docs.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") && name != "SUMMARY.md" {
                assert!(summary.contains(&format!("({dir}{name})")), "{dir}{name} is not in docs/SUMMARY.md");
            }
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let root = workspace_root();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let page = fs::read_to_string(root.join("docs/decisions/dependencies.md")).unwrap();
    let (_, section) = manifest.split_once("[workspace.dependencies]").unwrap();
    let section = section.split("\n[").next().unwrap();
    let declared = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let names: Vec<_> = declared.filter(|(_, value)| !value.contains("path = ")).map(|(name, _)| name).collect();
    assert!(names.contains(&"tokio"), "{names:?}");
    for name in &names {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/decisions/dependencies.md");
    }
    let told = page.lines().filter(|line| line.starts_with("| `")).flat_map(|line| {
        let cell = line.split('|').nth(1).unwrap_or_default();
        cell.split('`').skip(1).step_by(2)
    });
    for name in told {
        assert!(names.contains(&name), "{name} is in docs/decisions/dependencies.md and not in Cargo.toml");
    }
}

#[test]
fn every_test_that_a_promise_names_is_there() {
    let root = workspace_root();
    let page = fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let mut sources = String::new();
    let mut places = vec![root];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                places.push(path);
            } else if name.ends_with(".rs") {
                sources.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let held_by = rows.filter_map(|line| line.split(" | ").nth(1));
    let named: Vec<&str> = held_by
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|name| name.split_once("::"))
        .map(|(_, test)| test.rsplit("::").next().unwrap())
        .collect();
    assert!(named.len() > 100, "{}", named.len());
    for test in named {
        assert!(sources.contains(&format!("fn {test}(")), "docs/promises.md names {test}, and no test is called so");
    }
}

#[test]
fn every_rule_is_in_a_directory_of_its_id() {
    let mut rules = 0;
    for entry in fs::read_dir(workspace_root().join("rules")).unwrap() {
        let dir = entry.unwrap().path();
        if dir.file_name().is_some_and(|name| name == "lists.toml") {
            continue;
        }
        let text = fs::read_to_string(dir.join("rule.toml")).unwrap();
        let id = dir.file_name().unwrap().to_str().unwrap();
        assert!(text.starts_with(&format!("id = \"{id}\"\n")), "{}", dir.display());
        rules += 1;
    }
    assert!(rules >= 20, "only {rules} rules are shipped");
}
