//! The set-up for the tests of this crate.

#![allow(clippy::unwrap_used)]

use platform::native::{MapConfig, World, block_on};

use crate::projects::{self, NewProject};

/// A world with these settings.
pub(crate) fn world(settings: &[(&str, &str)]) -> World {
    World::new(MapConfig::from_pairs(settings))
}

/// Makes a project, named after its id.
pub(crate) fn make_project(world: &World, project_id: &str, owner_id: &str) {
    let ports = world.ports();
    let new = NewProject {
        project_id,
        name: project_id,
        owner_id,
    };
    block_on(projects::create(ports.database, ports.clock, new)).unwrap();
}
