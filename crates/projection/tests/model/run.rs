//! A run: what happens, in which order, and what must be true in the end.

use std::{
    cell::Cell,
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use platform::native::block_on;
use serde_json::{Value, json};
use tasks::{Task, TaskRequest, rows};

use crate::{
    mutant::Mutant,
    shared::{CHAOS, Job},
    world::{CROWDED, World},
};

/// The milliseconds after which every task must have ended.
const END: u64 = CHAOS + 2 * 3600 * 1000;

const PROJECTS: u64 = 3;

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Process<'w> {
    number: u64,
    future: Pin<Box<dyn Future<Output = ()> + 'w>>,
    ready: Arc<Ready>,
}

/// The story of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Story {
    /// The number of tasks, all of which have ended.
    pub(crate) tasks: usize,
    statements: u64,
    /// The end of the run, in milliseconds.
    end: u64,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, mutant: Mutant) -> Story {
    let world = World::new(seed, mutant);
    plan(&world);
    live(&world);
    if world.has_documents {
        for project in 0..PROJECTS {
            agree(&world, &format!("p{project}"));
        }
    }
    Story {
        tasks: count(&world),
        statements: world.shared.statements.get(),
        end: world.shared.now.get(),
    }
}

/// Runs a seed in which many tasks wait at an account of three places, although the setting says ten. Returns the number
/// of refusals.
pub(crate) fn crowd(seed: u64, mutant: Mutant) -> u64 {
    let world = World::crowd(seed, mutant);
    let (shared, film) = (&world.shared, &world.services[0]);
    // In half of the seeds the service frees a place only a moment after it has said that a job has ended.
    film.lag.set(shared.below(2) * shared.below(4000));
    // In a third of them others use the account at first.
    let late = shared.below(3) / 2 * 60_000;
    film.shared_until.set(late);
    let tasks = 12 + shared.below(20);
    for _ in 0..tasks {
        let post = Job::Post {
            project: shared.below(PROJECTS),
            kind: "film",
            node: None,
        };
        shared.later(shared.below(2) * shared.below(30_000), post);
    }
    shared.later(shared.below(10_000), Job::Tick);
    live(&world);
    assert_eq!(count(&world), tasks as usize);
    let done =
        world.rows("SELECT 1 FROM aigc_tasks WHERE status = 'completed' AND retry_count = 0");
    assert_eq!(done.len(), tasks as usize);
    let (took, places) = (shared.now.get(), CROWDED as u64);
    // The posts, the last job, and a round of the poller after it; the pause may have grown while others used the account.
    let edges = 30_000 + 61_000 + 20_000 + 2 * late;
    // If the engine tries a place before the service has freed it, a round of the poller tries it again after the
    // pause.
    let again = if film.lag.get() > 0 { 20_000 } else { 0 };
    let most = (film.work.get() + tasks * again) / places + edges;
    assert!(
        took <= most,
        "{took} ms instead of {most} for {tasks} tasks"
    );
    let refused = film.refused.get();
    // The tasks that were submitted together before the first refusal, and then one for each pause: four until the
    // pause has reached a minute. The pauses may start over once, if the first refusals came before it was known which
    // tasks were taken.
    let mut tries = 8 + took / 60_000;
    if late > 0 {
        // Two more places were missing at first, and the pause has grown a second time since.
        tries += 6;
    }
    let early = if again > 0 { 4 * tasks } else { 0 };
    let most = u64::from(shared.places.get()) - places + tries + early;
    assert!(refused <= most, "{refused} refusals instead of {most}");
    refused
}

/// Decides what users do, and when.
fn plan(world: &World) {
    let shared = &world.shared;
    if world.has_documents {
        for project in 0..PROJECTS {
            block_on(draw_nodes(world, &format!("p{project}")));
        }
    }
    for _ in 0..3 + shared.below(20) {
        let job = Job::Post {
            // The first project has most of the tasks.
            project: shared.below(PROJECTS) * shared.below(2),
            kind: ["film", "picture"][shared.below(2) as usize],
            node: (shared.below(2) == 0).then(|| shared.below(2)),
        };
        shared.later(shared.below(CHAOS / 2), job);
    }
    for _ in 0..shared.below(4) {
        shared.later(shared.below(CHAOS), Job::Cancel(shared.below(20)));
        shared.later(shared.below(CHAOS), Job::Retry(shared.below(20)));
    }
    for poller in 0..2 {
        shared.later(poller * shared.below(10_000), Job::Tick);
    }
}

/// Draws the nodes `n0` and `n1`, for which tasks are posted.
async fn draw_nodes(world: &World, project: &str) {
    let doc = loro::LoroDoc::new();
    doc.set_peer_id(7).unwrap();
    let nodes = doc.get_map("nodes");
    let nested = nodes.insert_container("n0", loro::LoroMap::new()).unwrap();
    nested
        .insert_container("data", loro::LoroMap::new())
        .unwrap();
    nodes.insert("n1", json!({ "data": {} })).unwrap();
    doc.commit();
    let update = wire::Update {
        project: project.to_owned(),
        payload: doc.export(loro::ExportMode::all_updates()).unwrap().into(),
        serial: None,
    };
    let clock = platform::native::SetClock::default();
    rooms::append(&*world.database, &clock, "editor", vec![update])
        .await
        .unwrap();
}

/// Lets processes run until all that was planned has happened and every task has ended.
fn live(world: &World) {
    let shared = &world.shared;
    let mut processes: Vec<Process<'_>> = Vec::new();
    loop {
        for job in world.begun.take() {
            if matches!(job, Job::Tick) {
                // The next one comes, even if this one dies before it has done anything.
                shared.later(10_000, Job::Tick);
            }
            let ready = Arc::new(Ready(AtomicBool::new(true)));
            let (number, future) = (shared.number(), Box::pin(process(world, job)));
            processes.push(Process {
                number,
                future,
                ready,
            });
        }
        let is_ready = |process: &Process<'_>| process.ready.0.load(Ordering::Relaxed);
        let ready: Vec<usize> = (0..processes.len())
            .filter(|n| is_ready(&processes[*n]))
            .collect();
        if ready.is_empty() {
            if !pass_time(world) {
                return;
            }
            continue;
        }
        let n = ready[shared.below(ready.len() as u64) as usize];
        let process = &mut processes[n];
        shared.process.set(process.number);
        if shared.is_chaos.get() && shared.below(400) == 0 {
            shared.dead.borrow_mut().insert(process.number);
            processes.swap_remove(n);
            continue;
        }
        process.ready.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&process.ready));
        if process
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            == Poll::Ready(())
        {
            processes.swap_remove(n);
        }
    }
}

/// Goes on to the next moment at which something happens. Returns `false` if all that was planned has happened and
/// every task has ended.
fn pass_time(world: &World) -> bool {
    let shared = &world.shared;
    let wakes = shared.sleepers.borrow().keys().next().map(|at| at.0);
    let happens = shared.timeline.borrow().keys().next().map(|at| at.0);
    // There is always a round of the poller to come.
    let next = wakes.into_iter().chain(happens).min().unwrap();
    shared.now.set(next);
    shared.is_chaos.set(next < CHAOS && !shared.is_calm.get());
    while let Some(entry) = shared.sleepers.borrow_mut().first_entry() {
        if entry.key().0 > next {
            break;
        }
        entry.remove().wake();
    }
    while let Some(entry) = shared.timeline.borrow_mut().first_entry() {
        if entry.key().0 > next {
            break;
        }
        world.begun.borrow_mut().push(entry.remove());
    }
    let (begun, later) = (world.begun.borrow(), shared.timeline.borrow());
    let is_post = |job: &Job| matches!(job, Job::Post { .. });
    if shared.is_chaos.get() || begun.iter().chain(later.values()).any(is_post) {
        return true;
    }
    let is_shown = if world.has_documents {
        "projected_status IS NOT NULL"
    } else {
        "1"
    };
    let open = format!(
        "SELECT task_id, status, error_message FROM aigc_tasks
          WHERE status IN ('pending', 'processing') OR NOT {is_shown}"
    );
    let open = world.rows(&open);
    assert!(next < END || open.is_empty(), "not ended: {open:?}");
    !open.is_empty()
}

async fn process(world: &World, job: Job) {
    let engine = world.engine();
    match job {
        Job::Tick => {
            engine.tick().await;
            if !world.has_documents {
                return;
            }
            for project in projection::due(world, world, 256).await.unwrap() {
                project_now(world, &project).await;
            }
        }
        Job::Post {
            project,
            kind,
            node,
        } => {
            let mut body = json!({
                "project_id": format!("p{project}"), "task_type": kind, "params": { "prompt": "x" },
            });
            if let Some(node) = node {
                body["node_id"] = json!(format!("n{node}"));
            }
            let body = body.to_string();
            let request = TaskRequest::read(body.as_bytes()).unwrap();
            let posted = tasks::create(engine.ports, &engine.registry, &request, None).await;
            engine.take_up(&posted.unwrap()).await;
        }
        Job::Cancel(which) => {
            if let Some(task) = nth(world, which).await
                && let Ok(cancelled) = engine.cancel(&task).await
            {
                engine.ended(&cancelled).await;
            }
        }
        Job::Retry(which) => {
            if let Some(task) = nth(world, which).await
                && let Ok(again) = engine.set_back(&task).await
            {
                engine.take_up(&again).await;
            }
        }
        Job::Submission { service, answer } => submit(&engine, &service, answer).await,
        Job::CallBack { service, job, body } => {
            // The job may have been deleted or ended; then nothing happens.
            let _ = engine.call_back(service, &job, body.as_bytes()).await;
        }
        Job::Project(project) => project_now(world, &project).await,
    }
}

/// Does what the component does for `/internal/submissions/{service}`.
async fn submit(engine: &tasks::Engine<'_>, service: &str, answer: Rc<Cell<Option<u16>>>) {
    let claimed = engine.claim_next(service).await.unwrap();
    answer.set(Some(if claimed.is_some() { 202 } else { 204 }));
    drop(answer);
    if let Some(claimed) = claimed {
        engine.submit_claimed(claimed).await;
    }
}

async fn project_now(world: &World, project: &str) {
    projection::project(world, world, world, rooms::Memory::default(), project)
        .await
        .unwrap();
}

async fn nth(world: &World, which: u64) -> Option<Task> {
    let sql = "SELECT task_id FROM aigc_tasks ORDER BY project_id, seq";
    let mut found = world.rows(sql);
    let n = which as usize % found.len().max(1);
    let id = found.get_mut(n)?.text(0).unwrap();
    rows::get(world, &id).await.unwrap()
}

fn count(world: &World) -> usize {
    let count = world.rows("SELECT count(*) FROM aigc_tasks")[0].unsigned(0);
    usize::try_from(count.unwrap()).unwrap()
}

/// Checks that a document shows the rows as they are.
fn agree(world: &World, project: &str) {
    let clock = platform::native::SetClock::default();
    let merged = block_on(rooms::merge(
        &*world.database,
        &clock,
        project,
        rooms::Memory::default(),
    ))
    .unwrap();
    let doc: Value = serde_json::from_str(&merged.json().unwrap()).unwrap();
    let sql = format!(
        "SELECT task_id, node_id, status, result_url, error_message FROM aigc_tasks
          WHERE project_id = '{project}' ORDER BY seq"
    );
    let keys = |of: &Value| ["status", "src", "error"].map(|key| of[key].clone());
    let mut last = HashMap::new();
    for mut row in world.rows(&sql) {
        let (id, node) = (row.text(0).unwrap(), row.optional_text(1).unwrap());
        let expected = [2, 3, 4].map(|column| json!(row.optional_text(column).unwrap()));
        assert_eq!(keys(&doc["tasks"][&id]), expected, "{id}");
        if let Some(node) = node {
            last.insert(node, expected);
        }
    }
    for (node, expected) in last {
        assert_eq!(keys(&doc["nodes"][&node]["data"]), expected, "{node}");
    }
}
