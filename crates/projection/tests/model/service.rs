//! The fake services: one works on jobs and is polled, the other answers with its result.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use platform::Config;
use serde_json::{Value, json};
use tasks::{Callback, Context, Executor, Failure, Fields, Media, Product, Progress, Task};

use crate::shared::{Job, Shared};

/// The fate of the last submission of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    /// The service refused the submission, without an effect.
    Refused,
    /// The submission has not ended yet.
    UnderWay,
    /// The submission had an effect, but the answer was lost.
    Lost,
    /// The answer reached this process.
    Given(u64),
}

#[derive(Debug, Default, Clone)]
struct Known {
    /// The end of its work; `None` if it was not begun.
    ends: Option<u64>,
    fails: bool,
    last: Option<Answer>,
    /// The earliest time at which the rule lets the engine ask again, and the process that received it.
    not_before: (u64, u64),
    /// The seconds for which the last refusal asked not to be called.
    told: i64,
}

/// A service, and what it knows of jobs, by the engine's names for them.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    shared: Rc<Shared>,
    jobs: RefCell<HashMap<String, Known>>,
    /// The most jobs that the account may have at once, which the engine does not know.
    account: usize,
    /// The time, in milliseconds, until which others use the account, and leave one place.
    pub(crate) shared_until: Cell<u64>,
    /// The milliseconds for which an ended job still has its place.
    pub(crate) lag: Cell<u64>,
    /// The number of submissions that were refused because there was no place.
    pub(crate) refused: Cell<u64>,
    /// The milliseconds that all jobs take.
    pub(crate) work: Cell<u64>,
}

impl Service {
    pub(crate) fn new(name: &'static str, account: usize, shared: Rc<Shared>) -> Self {
        Self {
            name,
            shared,
            jobs: RefCell::default(),
            account,
            shared_until: Cell::default(),
            lag: Cell::default(),
            refused: Cell::default(),
            work: Cell::default(),
        }
    }

    /// The seconds for which the last refusal of a job asked not to be called.
    pub(crate) fn told(&self, job: &str) -> i64 {
        self.change(job, |known| known.told)
    }

    fn is_polled(&self) -> bool {
        self.name == "film"
    }

    fn change<T>(&self, job: &str, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.jobs.borrow_mut().entry(job.to_owned()).or_default())
    }

    /// Checks that the engine asks about a job no earlier than it may.
    fn asked(&self, job: &str) {
        let now = self.shared.now.get();
        let (not_before, process) = self.change(job, |known| known.not_before);
        if self.shared.dead.borrow().contains(&process) {
            return;
        }
        // Times are whole seconds in rows.
        assert!(
            now + 1000 > not_before,
            "{job} is asked about too early: {now}, not {not_before}"
        );
    }

    /// The jobs that the account may have at once now.
    fn places(&self) -> usize {
        if self.shared.now.get() < self.shared_until.get() {
            1
        } else {
            self.account
        }
    }

    fn running(&self) -> usize {
        let now = self.shared.now.get();
        let jobs = self.jobs.borrow();
        jobs.values()
            .filter(|known| known.ends.is_some_and(|ends| ends + self.lag.get() > now))
            .count()
    }

    /// Fails by chance, without an effect.
    async fn mishap(&self, job: &str, is_poll: bool, context: &Context<'_>) -> Result<(), Failure> {
        let shared = &self.shared;
        if shared.mishap(8) {
            // Late, and perhaps too late.
            context
                .clock
                .sleep(Duration::from_millis(shared.below(30_000)))
                .await;
        }
        if shared.mishap(3) {
            std::future::pending::<()>().await;
        }
        if shared.mishap(3) {
            return Err(Failure::access("401"));
        }
        if shared.mishap(10) {
            return Err(self.too_often(job, is_poll));
        }
        if shared.mishap(10) {
            return Err(Failure::retry("500"));
        }
        if shared.mishap(5) {
            return Err(Failure::retry("nonsense"));
        }
        Ok(())
    }

    /// The seconds for which a refusal asks not to be called.
    fn asks_for(&self) -> u64 {
        if self.shared.is_chaos.get() {
            self.shared.below(2) * self.shared.below(400)
        } else {
            0
        }
    }

    /// Refuses a job because no place is free. The watch knows when the engine may try again.
    fn no_place(&self, job: &str) -> Failure {
        let after = self.asks_for();
        self.change(job, |known| known.told = after as i64);
        self.refused.set(self.refused.get() + 1);
        Failure::no_place("1303", (after > 0).then(|| Duration::from_secs(after)))
    }

    /// Answers that it is asked too often. The engine must leave this job alone for a while.
    fn too_often(&self, job: &str, is_poll: bool) -> Failure {
        let after = self.asks_for();
        if !is_poll {
            self.change(job, |known| known.told = after as i64);
        }
        self.rest(job, after.clamp(5, 300) * 1000);
        Failure::too_often("429", (after > 0).then(|| Duration::from_secs(after)))
    }

    /// Forbids the engine to ask about a job for some time.
    fn rest(&self, job: &str, milliseconds: u64) {
        let shared = &self.shared;
        let not_before = (shared.now.get() + milliseconds, shared.process.get());
        self.change(job, |known| known.not_before = not_before);
    }

    /// Begins a job.
    fn begin(&self, job: &str) {
        let shared = &self.shared;
        let takes = if self.is_polled() {
            1000 + shared.below(60_000)
        } else {
            0
        };
        let ends = shared.now.get() + takes;
        let fails = shared.mishap(10);
        self.change(job, |known| {
            let is_again = self.is_polled() && known.ends.is_some();
            assert!(!is_again, "{job} became two jobs");
            known.ends = Some(ends);
            known.fails = fails;
        });
        self.work.set(self.work.get() + takes);
        if !self.is_polled() {
            return;
        }
        // The service calls back never, once, or twice, and not always at once.
        let is_late = u64::from(shared.is_chaos.get());
        for _ in 0..1 - is_late + is_late * shared.below(3) {
            let body = json!({ "job": job, "fails": fails }).to_string();
            let (service, job) = (self.name, job.to_owned());
            let wait = takes + is_late * shared.below(3) * shared.below(20_000);
            shared.later(wait, Job::CallBack { service, job, body });
        }
    }

    /// The answer about a job.
    fn about(&self, job: &str) -> Result<Progress, Failure> {
        let known = self.change(job, |known| known.clone());
        if known.ends.is_some_and(|ends| ends > self.shared.now.get()) {
            return Ok(Progress::Running {
                external_task_id: format!("their-{job}"),
                look_again: None,
            });
        }
        result(job, known.fails)
    }
}

fn result(job: &str, fails: bool) -> Result<Progress, Failure> {
    if fails {
        return Err(Failure::permanent("the job failed"));
    }
    let media = vec![Media::Url(format!("https://results/{job}"))];
    Ok(Progress::Done(Product {
        media,
        data: json!({}),
        signature: None,
    }))
}

/// A submission that has not ended. If it is dropped before it has an answer, because its process has died or waits no
/// longer, the answer is lost.
struct UnderWay<'s>(&'s Service, &'s str);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.change(self.1, |known| {
            if known.last == Some(Answer::UnderWay) {
                known.last = Some(Answer::Lost);
            }
        });
    }
}

pub(crate) struct Fake(pub(crate) Rc<Service>);

#[async_trait(?Send)]
impl Executor for Fake {
    fn service(&self) -> &'static str {
        self.0.name
    }

    fn task_types(&self) -> &'static [&'static str] {
        if self.0.is_polled() {
            &["film"]
        } else {
            &["picture"]
        }
    }

    fn places(&self, _: &dyn Config) -> u32 {
        self.0.shared.places.get()
    }

    fn check(&self, _: &str, _: &mut Fields<'_>) {}

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let (service, shared) = (&self.0, &self.0.shared);
        let job = task.job();
        assert_eq!(params["prompt"], "x");
        assert_eq!(task.external_task_id, None, "{job} was accepted already");
        service.asked(&job);
        match service.change(&job, |known| known.last) {
            Some(Answer::Given(process)) => assert!(
                shared.dead.borrow().contains(&process),
                "{job} is submitted again, although process {process} has the answer"
            ),
            Some(Answer::UnderWay) => panic!("{job} is submitted twice at once"),
            _ => {}
        }
        service.change(&job, |known| known.last = Some(Answer::UnderWay));
        let _under_way = UnderWay(service, &job);
        if let Err(failure) = service.mishap(&job, false, context).await {
            service.change(&job, |known| known.last = Some(Answer::Refused));
            return Err(failure);
        }
        let is_known = service.is_polled() && service.change(&job, |known| known.ends.is_some());
        if !is_known {
            if service.is_polled() && service.running() >= service.places() {
                service.change(&job, |known| known.last = Some(Answer::Refused));
                return Err(service.no_place(&job));
            }
            service.begin(&job);
        } else {
            assert!(
                task.was_attempted(),
                "{job} is known, but the engine does not say so"
            );
        }
        if shared.mishap(8) {
            return Err(Failure::retry("the answer is lost"));
        }
        let process = shared.process.get();
        service.change(&job, |known| known.last = Some(Answer::Given(process)));
        service.rest(&job, 8000);
        service.about(&job)
    }

    fn most_together(&self) -> usize {
        if self.0.shared.is_together { 3 } else { 1 }
    }

    fn is_polled_together(&self, params: &Value) -> bool {
        assert_eq!(params["prompt"], "x");
        self.0.is_polled()
    }

    /// Asks one question about several jobs. The answer may leave some of them out.
    async fn poll_together(
        &self,
        tasks: &[Task],
        context: &Context<'_>,
    ) -> Result<Vec<Option<Result<Progress, Failure>>>, Failure> {
        let service = &self.0;
        assert!((1..=3).contains(&tasks.len()), "{} jobs", tasks.len());
        for task in tasks {
            let job = task.job();
            service.asked(&job);
            assert_eq!(task.external_task_id, Some(format!("their-{job}")));
        }
        let begun = service.shared.now.get();
        service.mishap(&tasks[0].job(), true, context).await?;
        if service.shared.mishap(3) {
            return Err(Failure::permanent("one of the jobs is not known"));
        }
        let took = service.shared.now.get() - begun;
        let news = tasks.iter().map(|task| {
            let job = task.job();
            if service.shared.mishap(5) {
                return None;
            }
            service.rest(&job, 8000_u64.saturating_sub(took));
            Some(service.about(&job))
        });
        Ok(news.collect())
    }

    async fn poll(
        &self,
        task: &Task,
        _: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let (service, job) = (&self.0, task.job());
        service.asked(&job);
        assert_eq!(task.external_task_id, Some(format!("their-{job}")));
        let begun = service.shared.now.get();
        service.mishap(&job, true, context).await?;
        let took = service.shared.now.get() - begun;
        service.rest(&job, 8000_u64.saturating_sub(took));
        service.about(&job)
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        let news = result(body["job"].as_str()?, body["fails"] == true);
        Some(Callback { about: None, news })
    }
}
