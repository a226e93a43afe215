use super::*;

fn parse(body: &str) -> Result<Manifest, String> {
    Manifest::parse(body, PathBuf::from("/app"))
}

const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"app\"\n";

#[test]
fn a_full_manifest_is_understood() {
    let manifest = parse(
        r#"
spin_manifest_version = 2

[application]
name = "app"
version = "1.0.0"
description = "what it is"
authors = ["A <a@example.com>"]

[application.trigger.redis]
address = "{{ redis_url }}"

[variables]
redis_url = { default = "redis://127.0.0.1:6379" }
token = { required = true, secret = true, description = "d" }

[[trigger.http]]
route = "/sync/:project"
component = "sync"

[[trigger.http]]
id = "inner"
route = { private = true }
component = { source = "inner.wasm" }

[[trigger.redis]]
channel = "task-{{ token }}"
component = "events"

[[trigger.cron]]
component = "cron"
cron_expression = "0/10 * * * * *"

[component.sync]
source = "target/sync.wasm"
description = "d"
allowed_outbound_hosts = ["{{ redis_url }}", "http://self", "https://*.example.com"]
sqlite_databases = ["default"]
key_value_stores = ["default"]
environment = { A = "1" }
files = ["a/*", { source = "b", destination = "/b" }]
exclude_files = ["**/*.map"]
[component.sync.variables]
token = "{{ token }}"
[component.sync.build]
command = "cargo build"
workdir = "."
watch = ["src/**"]

[component.events]
source = "events.wasm"
[component.cron]
source = "cron.wasm"
"#,
    )
    .unwrap();
    let sync = &manifest.components["sync"];
    assert_eq!(sync.source, Path::new("/app/target/sync.wasm"));
    assert!(sync.sqlite_databases.contains("default") && sync.key_value_stores.contains("default"));
    assert_eq!(sync.environment, [("A".to_owned(), "1".to_owned())]);
    assert_eq!(sync.files.len(), 2);
    assert_eq!(manifest.http.len(), 2);
    assert_eq!(
        manifest.http[0].route.as_ref().unwrap().raw,
        "/sync/:project"
    );
    assert_eq!(
        (manifest.http[1].component.as_str(), &manifest.http[1].route),
        ("inner-component", &None)
    );
    assert_eq!(
        manifest.redis[0].channel.names().collect::<Vec<_>>(),
        ["token"]
    );
    assert_eq!(manifest.cron.len(), 1);
    assert!(manifest.variables["token"].secret);
}

#[test]
fn what_spin_refuses_is_refused_in_one_line() {
    let component = "[component.c]\nsource = \"c.wasm\"\n";
    let trigger = "[[trigger.http]]\nroute = \"/\"\ncomponent = \"c\"\n";
    // what follows the head, and words that the error must have
    let table: &[(&str, &[&str])] = &[
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nfoo = 1",
            &["line 6", "foo"],
        ),
        (
            "[trigger]\n[variables]\nx = { defualt = \"1\" }",
            &["defualt"],
        ),
        ("[trigger]\n[unknown]\n", &["unknown"]),
        ("[variables]\n", &["trigger"]),
        ("[trigger]\n[component.c]\nfiles = []", &["source"]),
        (
            "[trigger]\n[component.c_d]\nsource = \"c.wasm\"",
            &["component", "c_d"],
        ),
        (
            "[trigger]\n[component.\"1c\"]\nsource = \"c.wasm\"",
            &["1c"],
        ),
        (
            "[trigger]\n[component.c]\nsource = { url = \"https://x/c.wasm\", digest = \"sha256:1\" }",
            &["component.c.source", "local"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\n[component.c.dependencies]\n\"a:b\" = \"1\"",
            &["component.c.dependencies"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nai_models = [\"m\"]",
            &["ai_models"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nfiles = [1]",
            &["component.c.files"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nsqlite_databases = [\"a b\"]",
            &["sqlite_databases", "a b"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nallowed_outbound_hosts = [\"example.com\"]",
            &["allowed_outbound_hosts", "example.com"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nallowed_outbound_hosts = [\"*\"]",
            &["allowed_outbound_hosts"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nallowed_outbound_hosts = [\"https://{{ no }}\"]",
            &["no"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nvariables = { a = \"{{ no }}\" }",
            &["component.c.variables.a", "no"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nvariables = { a = \"{{ open\" }",
            &["unmatched"],
        ),
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nvariables = { A-b = \"1\" }",
            &["A-b"],
        ),
        (
            "[trigger]\n[variables]\nUpper = { default = \"1\" }",
            &["Upper"],
        ),
        (
            "[trigger]\n[variables]\na__b = { default = \"1\" }",
            &["a__b"],
        ),
        (
            "[trigger]\n[variables]\nx = { required = true, default = \"1\" }",
            &["variables.x"],
        ),
        (
            "[trigger]\n[variables]\nx = { secret = true }",
            &["variables.x"],
        ),
        (
            "[[trigger.http]]\nroute = \"/\"\ncomponent = \"nobody\"",
            &["trigger.http[0].component", "nobody"],
        ),
        (
            "[[trigger.http]]\nroute = \"/\"",
            &["trigger.http[0].component"],
        ),
        (
            "[[trigger.mqtt]]\ncomponent = \"c\"\n[component.c]\nsource = \"c.wasm\"",
            &["mqtt"],
        ),
        (
            "[[trigger.redis]]\nchannel = \"x\"\ncomponent = \"c\"\n[component.c]\nsource = \"c.wasm\"",
            &["trigger.redis[0].address"],
        ),
        (
            "[[trigger.cron]]\ncron_expression = \"soon\"\ncomponent = \"c\"\n[component.c]\nsource = \"c.wasm\"",
            &["cron_expression", "soon"],
        ),
        (
            "[application.trigger.redis]\naddr = \"x\"\n[trigger]",
            &["application.trigger.redis", "addr"],
        ),
        ("[trigger", &["line"]),
    ];
    for (body, words) in table {
        let error = parse(&format!("{HEAD}{body}")).expect_err(body);
        assert!(!error.contains('\n'), "{error}");
        for word in *words {
            assert!(error.contains(word), "{body}\n-> {error}\nlacks {word:?}");
        }
    }
    for route in [
        "\"x\"",
        "\"/a/.../b\"",
        "\"/a//b\"",
        "\"/:\"",
        "{ private = false }",
        "{ secret = true }",
        "1",
    ] {
        let body =
            format!("{HEAD}[[trigger.http]]\nroute = {route}\ncomponent = \"c\"\n{component}");
        let error = parse(&body).expect_err(route);
        assert!(
            error.contains("trigger.http[0].route"),
            "{route} -> {error}"
        );
    }
    let twice = format!("{HEAD}{trigger}{trigger}{component}");
    assert!(
        parse(&twice).unwrap_err().contains("taken"),
        "two components with one route"
    );
    let field = format!("{HEAD}{trigger}chanel = \"x\"\n{component}");
    assert!(parse(&field).unwrap_err().contains("chanel"));
    for version in ["1", "3", "\"2\""] {
        let body =
            format!("spin_manifest_version = {version}\n[application]\nname = \"a\"\n[trigger]\n");
        assert!(
            parse(&body).unwrap_err().contains("spin_manifest_version"),
            "{version}"
        );
    }
}
