//! The capacity: the number of instances that may run at one time, and the memory that they may hold together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::background::Background;
use super::lane::Lane;
use super::limits::Limits;
use crate::budget::{Budget, Claim};

/// The places of all lanes and the budget of memory, with the limits of each instance.
pub(crate) struct Capacity {
    /// The limits of one instance.
    pub(crate) limits: Limits,
    /// The places of each lane, by its index; the same places for all if lanes are off.
    places: Vec<Arc<Semaphore>>,
    budget: Arc<Budget>,
    background: Background,
}

/// The place of one instance. Both parts are given back when they are dropped.
pub(crate) struct Place {
    /// The memory that it holds.
    pub(crate) claim: Claim,
    /// The place itself.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The reason why an instance does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// The places of the lane are all taken.
    Places,
    /// The instances hold all memory that they may.
    Memory,
}

impl Busy {
    /// The error in words, for a caller.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Places => "all instances are busy",
            Self::Memory => "the memory for instances is used up",
        }
    }
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Busy {}

impl Capacity {
    /// Makes as many free places, and as much free memory, as `limits` allows.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn new(limits: Limits) -> std::io::Result<Self> {
        let places = if limits.lanes {
            Lane::ALL
                .map(|lane| Arc::new(Semaphore::new(lane.places(&limits) as usize)))
                .to_vec()
        } else {
            let shared = Arc::new(Semaphore::new(places(&limits) as usize));
            Lane::ALL.map(|_| Arc::clone(&shared)).to_vec()
        };
        Ok(Self {
            limits,
            places,
            budget: Budget::new(limits.total_memory),
            background: Background::start()?,
        })
    }

    /// Takes a place of a lane, and the memory with which an instance starts.
    ///
    /// # Errors
    /// At once, if a lane that does not wait is full; if no place becomes free within the time that the limits allow; or
    /// if the memory is used up.
    pub(crate) async fn place(&self, lane: Lane) -> Result<Place, Busy> {
        let permit = self.permit(lane).await?;
        let total = self.budget.total();
        let ceiling = if self.limits.lanes {
            lane.ceiling(total)
        } else {
            total
        };
        let mut claim = self.budget.claim(ceiling);
        if !claim.reaches(lane.reservation().min(self.limits.memory)) {
            return Err(Busy::Memory);
        }
        Ok(Place { claim, permit })
    }

    /// Runs an instance of a lane in a task of its own.
    pub(crate) fn spawn(&self, lane: Lane, task: impl Future<Output = ()> + Send + 'static) {
        if self.limits.lanes && lane.is_background() {
            self.background.spawn(task);
        } else {
            tokio::spawn(task);
        }
    }

    async fn permit(&self, lane: Lane) -> Result<OwnedSemaphorePermit, Busy> {
        let places = &self.places[lane as usize];
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Ok(permit);
        }
        if self.limits.lanes && !lane.waits() {
            return Err(Busy::Places);
        }
        tokio::time::timeout(self.limits.queue, Arc::clone(places).acquire_owned())
            .await
            .map_err(|_| Busy::Places)?
            .map_err(|_| Busy::Places)
    }

    /// Waits until no instance runs. It takes no place, because an instance that finishes its work may need another
    /// one.
    pub(crate) async fn idle(&self) {
        while self.free() < places(&self.limits) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn free(&self) -> u32 {
        let count = if self.limits.lanes {
            self.places.len()
        } else {
            1
        };
        let free = self.places[..count]
            .iter()
            .map(|places| places.available_permits())
            .sum::<usize>();
        u32::try_from(free).unwrap_or(u32::MAX)
    }
}

/// The number of instances that may run at one time, over all lanes.
pub(crate) fn places(limits: &Limits) -> u32 {
    if limits.lanes {
        Lane::ALL.iter().map(|lane| lane.places(limits)).sum()
    } else {
        limits.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            instances: 1,
            queue: Duration::from_millis(20),
            total_memory: 1 << 30,
            ..Limits::default()
        }
    }

    #[tokio::test]
    async fn a_full_lane_takes_no_place_of_another() {
        let capacity = Capacity::new(limits()).unwrap();
        let mut held = Vec::new();
        for lane in Lane::ALL {
            for _ in 0..lane.places(&capacity.limits) {
                held.push(capacity.place(lane).await.map_err(drop).unwrap());
            }
            assert_eq!(capacity.place(lane).await.err(), Some(Busy::Places));
        }
        drop(held);
        tokio::time::timeout(Duration::from_secs(5), capacity.idle())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn without_lanes_all_share_the_places() {
        let capacity = Capacity::new(Limits {
            lanes: false,
            ..limits()
        })
        .unwrap();
        let held = capacity.place(Lane::Public).await;
        assert!(held.is_ok());
        assert_eq!(
            capacity.place(Lane::Internal).await.err(),
            Some(Busy::Places)
        );
        drop(held);
        assert!(capacity.place(Lane::Internal).await.is_ok());
    }

    #[tokio::test]
    async fn memory_that_is_used_up_refuses_an_instance_and_users_leave_some_to_the_app() {
        let capacity = Capacity::new(Limits {
            instances: 100,
            total_memory: 4 * 4 * Lane::Public.reservation(),
            ..limits()
        })
        .unwrap();
        let mut held = Vec::new();
        while let Ok(place) = capacity.place(Lane::Public).await {
            held.push(place);
        }
        assert_eq!(held.len(), 12);
        assert_eq!(capacity.place(Lane::Public).await.err(), Some(Busy::Memory));
        assert!(capacity.place(Lane::Internal).await.is_ok());
        held.pop();
        assert!(capacity.place(Lane::Public).await.is_ok());
    }
}
