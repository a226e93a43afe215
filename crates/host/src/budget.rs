//! The budget of memory that all instances share.
//!
//! It counts what instances hold: their linear memories, and the results of queries on the way to them. Each instance
//! reserves a little before it starts, and more as it grows. If the budget is used up, an instance that would start is
//! refused, and one that would grow is not given the memory; the others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The bytes that all instances may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `total` bytes.
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            used: AtomicUsize::new(0),
        })
    }

    /// The bytes of the budget, used or not.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Begins a claim of no bytes, which takes more only while at most `ceiling` bytes are in use afterwards.
    pub(crate) fn claim(self: &Arc<Self>, ceiling: usize) -> Claim {
        Claim {
            budget: Arc::clone(self),
            ceiling,
            bytes: 0,
        }
    }
}

/// The bytes of a budget that one owner holds. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Claim {
    budget: Arc<Budget>,
    ceiling: usize,
    bytes: usize,
}

impl Claim {
    /// Another claim of the same budget under the same ceiling, of no bytes yet.
    pub(crate) fn beside(&self) -> Self {
        self.budget.claim(self.ceiling)
    }

    /// Takes as many bytes as are missing to `bytes`. Returns whether the claim has them; if not, it is unchanged.
    pub(crate) fn reaches(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            return true;
        }
        let more = bytes - self.bytes;
        let taken = self.budget.used.fetch_update(Relaxed, Relaxed, |used| {
            used.checked_add(more).filter(|used| *used <= self.ceiling)
        });
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }

    /// Gives all bytes back.
    pub(crate) fn release(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_share_the_budget_up_to_their_ceilings_and_give_it_back() {
        let budget = Budget::new(100);
        let mut public = budget.claim(75);
        let mut internal = budget.claim(100);
        assert!(public.reaches(75));
        assert!(!public.reaches(76));
        // It held what it had, and a smaller amount takes nothing.
        assert!(public.reaches(10));
        assert_eq!(budget.used.load(Relaxed), 75);
        assert!(!internal.reaches(26));
        assert!(internal.reaches(25));
        assert!(!internal.reaches(usize::MAX));
        drop(public);
        assert_eq!(budget.used.load(Relaxed), 25);
        assert!(internal.beside().reaches(75));
        internal.release();
        assert_eq!(budget.used.load(Relaxed), 0);
        assert!(internal.reaches(100));
    }
}
