//! What is in `deploy/` and `docs/operations.md` speaks of variables, routes and commands that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::books::run;
use crate::support::{On, Store};

const KUBERNETES: &str = include_str!("../../../../deploy/kubernetes.yml");
const SYSTEMD: &str = include_str!("../../../../deploy/allocation.service");
const EXAMPLE: &str = include_str!("../../../../deploy/allocation.env");
const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

/// Every variable of the program, and the files that secrets may come from.
async fn variables() -> BTreeSet<String> {
    let (status, said) = run(&Store::new(On::Sqlite).await, &["config"]).await;
    assert_eq!(status, 0, "{said}");
    let name = |line: &str| {
        let name = line.trim_start_matches("# ").split_once('=')?.0.to_owned();
        name.chars().all(|c| c.is_ascii_uppercase() || c == '_').then_some(name)
    };
    let files = said.lines().filter_map(|line| line.strip_prefix("# A secret: may be given as a file named by "));
    let files = files.map(|name| name.trim_end_matches('.').to_owned());
    said.lines().filter_map(name).chain(files).collect()
}

#[tokio::test]
async fn what_is_set_at_deployment_are_variables_of_the_program() {
    let variables = variables().await;
    let in_pods = KUBERNETES.lines().filter_map(|line| line.trim().strip_prefix("- {name: ")?.split([',', '}']).next());
    let in_pods = in_pods.filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    let in_unit =
        SYSTEMD.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("Environment=")?.split('=').next());
    let in_file = EXAMPLE.lines().filter_map(|line| line.trim_start_matches('#').split_once('=').map(|(name, _)| name));
    let set: BTreeSet<&str> = in_pods.chain(in_unit).chain(in_file).collect();
    for expected in ["DATABASE_URL_FILE", "LISTEN", "ACCESS"] {
        assert!(set.contains(expected), "{expected} is not set: {set:?}");
    }
    let unknown: Vec<_> = set.into_iter().filter(|name| !variables.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn probes_ask_routes_that_need_no_key() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let paths = KUBERNETES.lines().filter_map(|line| line.split_once("path: /").map(|(_, rest)| rest));
    let paths: BTreeSet<String> = paths.map(|rest| format!("/{}", rest.split([',', '}']).next().unwrap())).collect();
    assert_eq!(paths, ["/healthz".to_owned(), "/readyz".to_owned()].into());
    for path in paths {
        let operation = &document["paths"][&path]["get"];
        assert!(operation.is_object(), "there is no {path}");
        assert_eq!(operation["security"], document["paths"]["/healthz"]["get"]["security"]);
    }
}

#[tokio::test]
async fn the_documented_commands_are_commands_of_the_program() {
    let store = Store::new(On::Sqlite).await;
    let mut commands: BTreeSet<Vec<&str>> = BTreeSet::new();
    for line in OPERATIONS.lines() {
        if let Some(command) = line.strip_prefix("allocation ") {
            let is_name =
                |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
            commands.insert(command.split_whitespace().take_while(is_name).collect());
        }
    }
    assert!(commands.contains(&vec!["backup"]) && commands.contains(&vec!["restore"]), "{commands:?}");
    for command in commands {
        let (status, said) = run(&store, &[command.as_slice(), &["--help"]].concat()).await;
        assert!(status == 0 && said.contains("Usage: allocation"), "{command:?}: {said}");
    }
}
