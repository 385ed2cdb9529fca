//! Care of the store through the programs: how much there is, what goes, what is exported, whether it is sound.

use crate::support::{FAST, PATIENCE, ask, number, query, rows, scans_go_by, site, text};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampNanosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;
use testkit::{Monitor, wait_for};

const EVENTS: &str = "SELECT count(*) FROM processes.events";

fn of_table<'a>(stats: &'a [Value], table: &str) -> &'a Value {
    stats.iter().find(|row| text(row, "table") == table).unwrap_or(&Value::Null)
}

#[test]
fn what_is_pruned_is_told_before_and_after_and_answers_say_so() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    // What the rules have seen is marked by the commit after it.
    scans_go_by(&monitor, 2);
    let events = number(site, EVENTS);
    let stats = ask(site, &["data", "stats"]);
    assert_eq!(stats.exit, 0, "{stats:?}");
    let fresh = of_table(&stats.rows, "processes.events, fresh");
    assert!(fresh["rows"].as_u64().unwrap() >= events && fresh["bytes"].as_u64() > Some(0), "{stats:?}");
    assert!(of_table(&stats.rows, "the file")["bytes"].as_u64() > Some(0), "{stats:?}");
    assert!(query(site, EVENTS).reasons.iter().all(|reason| !reason.starts_with("retention: ")));

    let dry = ask(site, &["data", "prune", "--older-than", "0s", "--dry-run"]);
    assert_eq!((dry.exit, dry.rows.len()), (0, 1), "{dry:?}");
    assert!(dry.rows[0]["events"].as_u64() >= Some(1), "{dry:?}");
    assert!(number(site, EVENTS) >= events, "a dry run removes nothing");

    let removed = ask(site, &["data", "prune", "--older-than", "0s"]);
    assert!(removed.rows[0]["events"].as_u64() >= dry.rows[0]["events"].as_u64(), "{dry:?} {removed:?}");
    let left = query(site, EVENTS);
    assert!(left.reasons.iter().any(|reason| reason.starts_with("retention: ")), "{left:?}");
    let gaps = rows(site, "SELECT to_time FROM system.gaps WHERE kind = 'retention'");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let until = text(&gaps[0], "to_time").replace('T', " ").replace('Z', "");
    let after = query(site, &format!("{EVENTS} WHERE event_time > '{until}'"));
    assert!(after.reasons.iter().all(|reason| !reason.starts_with("retention: ")), "{after:?}");
    let now = query(site, "SELECT count(*) FROM processes WHERE end_time IS NULL");
    assert!(now.rows[0].as_object().unwrap().values().next().unwrap().as_u64() > Some(0), "what runs stays: {now:?}");

    scans_go_by(&monitor, 1);
    let verified = ask(site, &["data", "verify"]);
    assert_eq!((verified.exit, verified.rows[0]["problems"].as_u64()), (0, Some(0)), "{verified:?}");
    for wrong in
        [&["data", "prune"][..], &["data", "prune", "--older-than", "7"], &["processes", "--format", "parquet"]]
    {
        assert_eq!(monitor.cli(wrong).unwrap().status, 2, "{wrong:?}");
    }
}

#[test]
fn what_is_older_than_configured_goes_by_itself() {
    let place = site().with_config(&format!("{FAST}[agent]\nretention_s = 2\n")).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let first = number(monitor.site(), EVENTS);
    assert!(first > 0);
    monitor.stop().unwrap();
    // Until all of it is older than that.
    std::thread::sleep(Duration::from_secs(3));
    monitor.restart().unwrap();
    wait_for("retention", PATIENCE, || {
        number(monitor.site(), "SELECT count(*) FROM system.gaps WHERE kind = 'retention'") == 1
    });
    assert!(monitor.log().contains("retention removed"), "{}", monitor.log());
}

fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

#[test]
fn an_export_has_every_row_in_every_format() {
    // An export has no limit of rows.
    let place = site().with_config(&format!("{FAST}[agent]\nquery_max_rows = 3\n")).unwrap();
    let monitor = Monitor::start(place).unwrap();
    let site = monitor.site();
    let newest = rows(site, "SELECT max(event_time) AS t FROM processes.events WHERE event_type = 'seen'");
    let to = text(&newest[0], "t").to_owned();
    let to = to.replace('T', " ").replace('Z', "");
    let condition = "event_type = 'seen' AND pid > 0";
    let wanted = number(site, &format!("{EVENTS} WHERE event_time <= '{to}' AND {condition}"));
    assert!(wanted > 3);
    let export = |format: &str, more: &[&str]| {
        let file = site.root().join(format!("rows.{format}"));
        let fixed = ["data", "export", "--format", format, "--to", &to, "--where", condition, "-o"];
        let ran = monitor.cli(&[&fixed[..], &[file.to_str().unwrap()], more].concat()).unwrap();
        (file, ran)
    };
    for format in ["parquet", "csv", "jsonl"] {
        let (file, ran) = export(format, &[]);
        assert!(matches!(ran.status, 0 | 3), "{ran:?}");
        assert!(ran.stdout.starts_with(&format!("{wanted} rows in ")), "{ran:?}");
        let (_, again) = export(format, &[]);
        assert_eq!(again.status, 1, "it exists: {again:?}");
        assert!(matches!(export(format, &["--force"]).1.status, 0 | 3));
        assert!(file.metadata().unwrap().len() > 100);
    }
    let lines = fs::read_to_string(site.root().join("rows.jsonl")).unwrap();
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len() as u64, wanted);

    let batches = read_parquet(&site.root().join("rows.parquet"));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, wanted);
    let batch = &batches[0];
    let kind = |name: &str| batch.column_by_name(name).unwrap().data_type().clone();
    assert_eq!(kind("event_time"), DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())));
    assert_eq!(
        [kind("pid"), kind("cpu_usage"), kind("file_exists")],
        [DataType::Int64, DataType::Float64, DataType::Boolean]
    );
    let first = &objects[0];
    assert_eq!(batch.column_by_name("event_id").unwrap().as_string::<i32>().value(0), text(first, "event_id"));
    assert_eq!(batch.column_by_name("pid").unwrap().as_primitive::<Int64Type>().value(0), first["pid"]);
    let times = batch.column_by_name("event_time").unwrap().as_primitive::<TimestampNanosecondType>();
    let shown = daemoneye_lib::models::time::rfc3339(times.value(0));
    assert_eq!(shown, text(first, "event_time"));
    assert!(!times.is_null(0));

    let broken = monitor.cli(&["data", "export", "--format", "csv", "--where", "nothing = 1", "-o", "x.csv"]).unwrap();
    assert_eq!(broken.status, 5, "{broken:?}");
    let names: Vec<_> = fs::read_dir(site.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("partial") && name != "x.csv"), "{names:?}");
}
