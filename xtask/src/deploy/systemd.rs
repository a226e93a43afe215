//! The tests of `deploy/systemd/`.

use super::{folder, is_known, options, read};

/// The settings that each unit has, so that a fault in it reaches nothing else.
const HARDENING: &[&str] = &[
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "UMask=0077",
];

/// The other keys that a unit may have.
const KEYS: &[&str] = &[
    "After",
    "Description",
    "Environment",
    "EnvironmentFile",
    "ExecStart",
    "Group",
    "LimitNOFILE",
    "MemoryDenyWriteExecute",
    "Restart",
    "RestartSec",
    "StartLimitIntervalSec",
    "StateDirectory",
    "StateDirectoryMode",
    "TimeoutStopSec",
    "User",
    "WantedBy",
    "Wants",
    "WorkingDirectory",
];

/// The options of `spin up` that the units use. All are stable except `--component-id`.
const SPIN_UP: &[&str] = &[
    "component-id",
    "from",
    "listen",
    "runtime-config-file",
    "state-dir",
];

/// The lines of a unit that set something, by the unit's name.
fn units() -> Vec<(String, Vec<String>)> {
    let mut units = Vec::new();
    for entry in std::fs::read_dir(folder().join("systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".service") {
            let unit = read(&format!("deploy/systemd/{name}"));
            let lines = unit.lines().filter(|line| {
                !line.is_empty() && !line.starts_with('#') && !line.starts_with('[')
            });
            units.push((name.clone(), lines.map(str::to_owned).collect()));
        }
    }
    assert_eq!(units.len(), 4);
    units
}

fn value<'a>(lines: &'a [String], key: &str) -> Option<&'a str> {
    let mut lines = lines.iter().filter_map(|line| line.split_once('='));
    lines
        .find(|(other, _)| *other == key)
        .map(|(_, value)| value)
}

#[test]
fn each_unit_starts_again_and_has_no_rights() {
    for (name, lines) in units() {
        for line in HARDENING {
            assert!(lines.iter().any(|other| other == line), "{name}: {line}");
        }
        for line in &lines {
            let (key, _) = line.split_once('=').unwrap();
            assert!(
                KEYS.contains(&key) || HARDENING.contains(&line.as_str()),
                "{name}: {line}"
            );
        }
        assert_eq!(value(&lines, "Restart"), Some("always"), "{name}");
        assert_eq!(value(&lines, "StartLimitIntervalSec"), Some("0"), "{name}");
        assert_eq!(value(&lines, "User"), Some("loro-sync"), "{name}");
    }
}

/// The relay compiles nothing while it runs. The other programs compile Wasm, and need memory that is written and then
/// executed.
#[test]
fn only_the_relay_may_do_without_new_code() {
    for (name, lines) in units() {
        let denied = value(&lines, "MemoryDenyWriteExecute");
        assert_eq!(denied.is_some(), name == "spin-relay.service", "{name}");
    }
}

#[test]
fn the_programs_have_the_options_that_the_units_use() {
    for (name, lines) in units() {
        let start = value(&lines, "ExecStart").unwrap();
        let program = start.split_whitespace().next().unwrap();
        let known = match program.rsplit('/').next().unwrap() {
            "loro-host" => options("host"),
            "relay" => options("relay"),
            "spin" => SPIN_UP.iter().map(|&option| option.to_owned()).collect(),
            other => panic!("{name}: {other}"),
        };
        let used = start
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"));
        for option in used {
            assert!(known.contains(option), "{name}: --{option}");
        }
        assert_eq!(
            value(&lines, "StateDirectory").is_some(),
            start.contains("--state-dir /var/lib/loro-sync"),
            "{name}"
        );
    }
}

#[test]
fn a_stop_waits_for_the_drain() {
    for (unit, least) in [("loro-host.service", 66), ("spin-relay.service", 16)] {
        let units = units();
        let (_, lines) = units.iter().find(|(name, _)| name == unit).unwrap();
        let wait = value(lines, "TimeoutStopSec").unwrap();
        let wait: u32 = wait.strip_suffix('s').unwrap().parse().unwrap();
        assert!(wait >= least, "{unit}: {wait}");
    }
}

#[test]
fn the_environment_sets_what_is_known() {
    let file = read("deploy/systemd/example.environment");
    let mut names = Vec::new();
    for line in file.lines() {
        if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            assert!(is_known(name), "{name}");
            names.push(name);
        }
    }
    for needed in ["BETTER_AUTH_ORIGIN", "INTERNAL_TOKEN", "WEBHOOK_KEY"] {
        assert!(names.contains(&format!("SPIN_VARIABLE_{needed}").as_str()));
    }
}

/// The network of this machine stays open, because Redis is there; every other private network is blocked.
#[test]
fn the_runtime_config_blocks_all_private_networks_but_this_machines() {
    let here: toml::Table = read("deploy/systemd/runtime-config.toml").parse().unwrap();
    let there: toml::Table = read("deploy/spinkube/runtime-config.toml").parse().unwrap();
    let networks = |config: &toml::Table| -> Vec<String> {
        let networks = config["outbound_networking"]["block_networks"].as_array();
        let networks = networks.unwrap().iter();
        let mut networks: Vec<String> = networks
            .map(|network| network.as_str().unwrap().to_owned())
            .collect();
        networks.sort();
        networks
    };
    let mut all = networks(&there);
    all.push("10.0.0.0/8".to_owned());
    all.retain(|network| network != "127.0.0.0/8");
    all.sort();
    assert_eq!(networks(&here), all);
}
