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
    assert_eq!(manifest.http.len(), 1);
    assert_eq!(manifest.http[0].route.raw, "/sync/:project");
    let address = manifest.redis_address.unwrap();
    assert_eq!(address.names().collect::<Vec<_>>(), ["redis_url"]);
    assert_eq!(
        manifest.redis[0].channel.names().collect::<Vec<_>>(),
        ["token"]
    );
    assert_eq!(manifest.cron.len(), 1);
    assert!(manifest.variables.has("token"));
}

#[test]
fn what_spin_refuses_is_refused_in_one_line() {
    let component = "[component.c]\nsource = \"c.wasm\"\n";
    let trigger = "[[trigger.http]]\nroute = \"/\"\ncomponent = \"c\"\n";
    // The text after the head, and words that the error must have.
    let table: &[(&str, &[&str])] = &[
        (
            "[trigger]\n[component.c]\nsource = \"c.wasm\"\nfoo = 1",
            &["line 7", "foo"],
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
            "[[trigger.http]]\nroute = \"/\"\ncomponent = \"ghost\"",
            &["trigger.http[0].component", "ghost"],
        ),
        (
            "[[trigger.http]]\nroute = \"/\"",
            &["trigger.http[0].component"],
        ),
        (
            "[[trigger.redis]]\nchannel = \"x\"\ncomponent = \"c\"\n[component.c]\nsource = \"c.wasm\"",
            &["trigger.redis[0]", "application.trigger.redis.address"],
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

#[test]
fn what_this_host_does_not_do_is_refused_in_a_sentence_that_names_the_key() {
    let component = "[component.c]\nsource = \"c.wasm\"\n";
    // Lines of the component, its trigger or a table of their own, and the beginning of the error.
    let of_component: &[(&str, &str)] = &[
        ("ai_models = [\"m\"]", "ai_models: this host has no models"),
        (
            "allowed_http_hosts = [\"a\"]",
            "allowed_http_hosts: Spin has replaced it",
        ),
        (
            "allowed_outbound_hosts = [\"http://x.spin.internal\"]",
            "allowed_outbound_hosts: \"http://x.spin.internal\": this host has no service chaining",
        ),
        (
            "allowed_outbound_hosts = [\"https://{a,b}\"]",
            "allowed_outbound_hosts: \"https://{a,b}\": this host has no lists of hosts",
        ),
        (
            "dependencies = { \"a:b\" = \"1\" }",
            "dependencies: this host composes no components",
        ),
        (
            "dependencies_inherit_configuration = true",
            "dependencies_inherit_configuration: this host composes no components",
        ),
        (
            "environment = { A = \"1\" }",
            "environment: this host gives components no environment",
        ),
        (
            "exclude_files = [\"*.map\"]",
            "exclude_files: this host mounts no files",
        ),
        ("files = [\"*.html\"]", "files: this host mounts no files"),
        (
            "files = [{ source = \"a\", destination = \"/\" }]",
            "files: this host mounts no files",
        ),
        (
            "profile.debug = {}",
            "profile: this host runs components without profiles",
        ),
    ];
    for (line, expected) in of_component {
        let error = parse(&format!("{HEAD}[trigger]\n{component}{line}")).expect_err(line);
        let expected = format!("component.c.{expected}");
        assert!(error.starts_with(&expected), "{line}\n-> {error}");
    }
    let of_trigger: &[(&str, &str, &str)] = &[
        (
            "http",
            "route = { private = true }\ncomponent = \"c\"",
            "[0].route: this host has no private routes",
        ),
        (
            "http",
            "route = \"/\"\ncomponent = { source = \"c.wasm\" }",
            "[0].component: this host has no inline components",
        ),
        (
            "http",
            "route = \"/\"\ncomponent = \"c\"\nexecutor = { type = \"wagi\" }",
            "[0].executor: this host calls components by wasi:http alone",
        ),
        (
            "http",
            "route = \"/\"\nstatic_response = { body = \"x\" }",
            "[0].static_response: this host serves components only",
        ),
        (
            "http",
            "route = \"/\"\ncomponents = { a = \"c\" }",
            "[0].components: this host composes no components",
        ),
        (
            "redis",
            "channel = \"x\"\ncomponent = \"c\"\naddress = \"redis://a\"",
            "[0].address: this host has one server",
        ),
        (
            "cron",
            "cron_expression = \"*/5 * * * *\"\ncomponent = \"c\"",
            "[0].cron_expression: \"*/5 * * * *\" must have 6 fields",
        ),
        (
            "mqtt",
            "component = \"c\"",
            "[0]: this host has no trigger \"mqtt\"",
        ),
    ];
    for (kind, lines, expected) in of_trigger {
        let error =
            parse(&format!("{HEAD}[[trigger.{kind}]]\n{lines}\n{component}")).expect_err(lines);
        let expected = format!("trigger.{kind}{expected}");
        assert!(error.starts_with(&expected), "{lines}\n-> {error}");
    }
    for (body, expected) in [
        (
            "[trigger]\n[component.c]\nsource = { url = \"https://x/c.wasm\", digest = \"sha256:1\" }",
            "component.c.source: this host runs local files only",
        ),
        (
            "[application.trigger.http]\nbase = \"/x\"\n[trigger]",
            "application.trigger.http: this host has settings of Redis triggers only",
        ),
    ] {
        let error = parse(&format!("{HEAD}{body}")).expect_err(body);
        assert!(error.starts_with(expected), "{body}\n-> {error}");
    }
}

#[test]
fn the_app_s_own_manifest_is_taken() {
    let manifest = parse(include_str!("../../../../spin.toml")).unwrap();
    assert!(manifest.components.contains_key("console"));
}
