//! Schemathesis tries the whole API with what the document allows and with what it forbids: no answer is outside the document, and none is 5xx.
//!
//! It is Python, and comes from `PyPI` with its versions pinned (`tests/schemathesis`). Where there is no Python or no `PyPI` nothing is tried.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use allocation_testing::servers::may_install;
use serde_json::json;

use crate::support::{On, Store, on_both_stores};

on_both_stores!(schemathesis_finds_nothing_on_either_store);

/// How many routes there are at least: each gets as many random requests as the others.
const ROUTES: u32 = 40;

/// What CI has time for, on one store.
const QUICK: u32 = 2_000;

/// All scopes, so that every route can be tried.
const SCOPES: &str = "stock:read,stock:write,orders:read,orders:write,events:read,admin";

/// How many requests are sent to each store at least: 2,000, 20,000 with `SOAK`, or `SCHEMATHESIS_CASES`.
fn cases() -> u32 {
    let told = std::env::var("SCHEMATHESIS_CASES").ok();
    let usual = if is_quick() { QUICK } else { 20_000 };
    told.map_or(usual, |told| told.parse().expect("SCHEMATHESIS_CASES is a number"))
}

/// Whether it is CI that waits for it.
fn is_quick() -> bool {
    ["SOAK", "SCHEMATHESIS_CASES"].iter().all(|name| std::env::var_os(name).is_none())
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis")
}

/// Schemathesis in an environment of its own, made the first time. None: it can't be had here.
fn schemathesis() -> Option<PathBuf> {
    let requirements = files().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    // Several test processes may come to make it at the same time.
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let (program, made_of) = (folder.join("bin/st"), folder.join("made-of"));
    if std::fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == wanted) {
        return Some(program);
    }
    if !may_install() {
        return None;
    }
    let run =
        |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        && run(Command::new(folder.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--requirement",
            ])
            .arg(&requirements));
    made.then(|| {
        std::fs::write(&made_of, wanted).unwrap();
        program
    })
}

/// The number before a word of what was said.
fn number_of(said: &str, word: &str) -> u32 {
    let before = said.split_once(word).map(|(before, _)| before.trim_end());
    let number = before.and_then(|before| before.rsplit(char::is_whitespace).next());
    number.and_then(|number| number.replace(',', "").parse().ok()).unwrap_or_else(|| panic!("{word} in {said}"))
}

async fn schemathesis_finds_nothing_on_either_store(on: On) {
    if is_quick() && on == On::Postgres {
        println!("skipped: what is answered does not depend on the store; `make soak` tries both");
        return;
    }
    let Some(program) = tokio::task::spawn_blocking(schemathesis).await.unwrap() else {
        println!("skipped: needs Python 3.11 or newer with venv (Debian: python3-venv), and PyPI");
        return;
    };
    // What it asks for is its business here, not how often.
    let store = Store::new(on)
        .await
        .with("ACCESS", "keys")
        .with("REQUESTS_PER_KEY", "1000000")
        .with("HOLDS_PER_KEY", "1000000");
    let made = store.run(&["keys", "create", "--name", "schemathesis", "--scope", SCOPES]).await;
    let key = String::from_utf8(made.stdout).unwrap();
    let key = format!("Authorization: Bearer {}", key.trim());
    let service = store.serve().await;
    for sku in ["LAMP", "CHAIR"] {
        let (_, token) = key.split_once(": ").unwrap();
        let path = service.program.url(&format!("/v1/products/{sku}/batches/b1"));
        let batch = service.client.put(path).header("Authorization", token).json(&json!({"qty": 1_000}));
        assert_eq!(batch.send().await.unwrap().status(), 201);
    }

    // What it leaves behind goes with the folder.
    let folder = tempfile::tempdir().unwrap();
    let mut run = tokio::process::Command::new(program);
    run.current_dir(&folder).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", files());
    run.arg("--config-file").arg(files().join("schemathesis.toml")).args(["run", "--no-color", "--checks", "all"]);
    // Beside those that the document gives cause for, which are more than CI needs.
    let examples = if is_quick() { 10 } else { cases().div_ceil(ROUTES) };
    run.args(["--header", &key, "--max-examples", &examples.to_string()]);
    if is_quick() {
        // The same in every run of CI, so that it fails for what was changed only.
        run.args(["--seed", "1", "--generation-deterministic"]);
    }
    run.arg(service.program.url("/openapi.json"));
    let output = run.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.split_once("= SUMMARY =").map_or(&*said, |(_, summary)| summary);
    println!("{summary}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(number_of(summary, "generated") >= cases(), "{summary}");

    let log = service.program.log();
    assert!(!log.contains("panicked"), "{log}");
    service.program.stop().await;
    store.assert_balanced().await;
}
