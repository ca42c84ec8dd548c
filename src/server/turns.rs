//! Whose turn it is. Places for bodies and for publications are given in the order in which
//! attempts first asked, however often they were told to come again: nobody is overtaken for ever
//! by those who happen to come at the right moment. And no attempt takes two places.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use crate::domain::ids::ScanId;

/// How long an attempt that does not come again keeps its place among those who ask.
const REMEMBERED: Duration = Duration::from_mins(5);

/// An attempt of a scan.
type Who = (ScanId, i32);

/// Who asked, and when first.
#[derive(Clone, Default)]
pub(super) struct Tickets(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    next: u64,
    held: HashMap<Who, Held>,
}

struct Held {
    number: u64,
    /// An upload of it is under way.
    active: bool,
    seen: Instant,
}

/// What an attempt has asked with, since when it first did.
pub(super) struct Ticket {
    number: u64,
    who: Who,
    over: bool,
    tickets: Tickets,
}

impl Tickets {
    /// The attempt's ticket; none while another upload of it is under way.
    pub(super) fn take(&self, who: Who) -> Option<Ticket> {
        let mut asked = self.lock();
        let now = Instant::now();
        asked
            .held
            .retain(|_, held| held.active || now.duration_since(held.seen) < REMEMBERED);
        let next = asked.next;
        let held = asked.held.entry(who).or_insert(Held {
            number: next,
            active: false,
            seen: now,
        });
        if held.active {
            return None;
        }
        held.active = true;
        let number = held.number;
        if number == next {
            asked.next += 1;
        }
        drop(asked);
        Some(Ticket {
            number,
            who,
            over: false,
            tickets: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The attempt need not come again.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut asked = self.tickets.lock();
        if self.over {
            asked.held.remove(&self.who);
        } else if let Some(held) = asked.held.get_mut(&self.who) {
            held.active = false;
            held.seen = Instant::now();
        }
    }
}

/// Places, and who waits for one.
#[derive(Clone)]
pub(super) struct Turns {
    places: Arc<Semaphore>,
    waiting: Arc<Mutex<BTreeMap<u64, oneshot::Sender<OwnedSemaphorePermit>>>>,
    /// Most who wait.
    most: usize,
}

/// A place, until it is dropped.
pub(super) struct Turn {
    place: Option<OwnedSemaphorePermit>,
    turns: Turns,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.place = None;
        self.turns.give();
    }
}

/// One who waits; leaving early leaves nothing behind.
struct Waiting<'a> {
    number: u64,
    turns: &'a Turns,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.number);
        // A place may have been on its way to this one.
        self.turns.give();
    }
}

impl Turns {
    /// So many places, for which at most so many wait.
    pub(super) fn new(places: usize, most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: Arc::default(),
            most,
        }
    }

    /// Waits for a place. None if it takes longer, or too many who asked before wait already.
    pub(super) async fn wait(&self, ticket: &Ticket, patience: Duration) -> Option<Turn> {
        let number = ticket.number;
        let place = self.enter(number)?;
        let waiting = Waiting {
            number,
            turns: self,
        };
        self.give();
        let place = timeout(patience, place).await;
        drop(waiting);
        Some(Turn {
            place: Some(place.ok()?.ok()?),
            turns: self.clone(),
        })
    }

    /// Joins those who wait. Where there are too many, the last to have asked has to leave.
    fn enter(&self, number: u64) -> Option<oneshot::Receiver<OwnedSemaphorePermit>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.insert(number, sender);
        let idle = self.places.available_permits();
        if waiting.len() > self.most.saturating_add(idle) {
            let (last, _) = waiting.pop_last()?;
            if last == number {
                return None;
            }
        }
        drop(waiting);
        Some(receiver)
    }

    /// Gives free places to those who wait, the first to have asked first.
    fn give(&self) {
        let mut waiting = self.lock();
        while !waiting.is_empty() {
            let Ok(mut place) = Arc::clone(&self.places).try_acquire_owned() else {
                return;
            };
            // Who has gone meanwhile gives it back at once.
            while let Some((_, first)) = waiting.pop_first() {
                match first.send(place) {
                    Ok(()) => break,
                    Err(back) => place = back,
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<OwnedSemaphorePermit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn who(number: u128) -> Who {
        (ScanId(Uuid::from_u128(number)), 1)
    }

    fn tickets(number: u128) -> Vec<Ticket> {
        let tickets = Tickets::default();
        (0..number).map(|n| tickets.take(who(n)).unwrap()).collect()
    }

    #[test]
    fn an_attempt_keeps_its_ticket_until_it_is_over_and_has_one_upload_at_a_time() {
        let tickets = Tickets::default();
        let first = tickets.take(who(1)).unwrap();
        let other = tickets.take(who(2)).unwrap();
        assert!(tickets.take(who(1)).is_none());
        let number = first.number;
        drop(first);
        let again = tickets.take(who(1)).unwrap();
        assert_eq!(again.number, number);
        assert!(again.number < other.number);
        again.over();
        assert!(tickets.take(who(1)).unwrap().number > other.number);
    }

    /// Waits until so many wait.
    async fn waiting(turns: &Turns, number: usize) {
        while turns.lock().len() != number {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_asked_first_is_served_first_whenever_it_came() {
        let turns = Turns::new(1, 10);
        let mut tickets = tickets(6);
        let holder = turns.wait(&tickets.remove(0), LONG).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (n, at) in [3, 1, 0, 1, 0].into_iter().enumerate() {
            let ticket = tickets.remove(at);
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let turn = turns.wait(&ticket, LONG).await.unwrap();
                order.lock().unwrap().push(ticket.number);
                drop(turn);
            }));
            waiting(&holder.turns, n + 1).await;
        }
        drop(holder);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn where_too_many_wait_the_last_to_have_asked_comes_again() {
        let turns = Turns::new(1, 1);
        let tickets = tickets(4);
        let holder = turns.wait(&tickets[0], LONG).await.unwrap();
        let spawn = |ticket: Ticket| {
            let turns = turns.clone();
            tokio::spawn(async move { turns.wait(&ticket, LONG).await.map(|_| ticket.number) })
        };
        let mut rest = tickets.into_iter().skip(1);
        let (one, two, three) = (rest.next(), rest.next(), rest.next());
        let two = spawn(two.unwrap());
        waiting(&turns, 1).await;
        assert_eq!(spawn(three.unwrap()).await.unwrap(), None);
        let one = spawn(one.unwrap());
        assert_eq!(
            two.await.unwrap(),
            None,
            "the first to have asked takes its place"
        );
        drop(holder);
        assert_eq!(one.await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn whoever_leaves_whenever_no_place_is_lost() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let turns = Turns::new(3, 20);
        let mut tasks = Vec::new();
        for ticket in tickets(300) {
            let turns = turns.clone();
            let rests = rng.random_range(0..4);
            let patience = Duration::from_micros(rng.random_range(0..2000));
            tasks.push(tokio::spawn(async move {
                let turn = turns.wait(&ticket, patience).await;
                for _ in 0..rests {
                    tokio::task::yield_now().await;
                }
                drop(turn);
            }));
            if rng.random_bool(0.3) {
                let which = rng.random_range(0..tasks.len());
                tasks[which].abort();
            }
            tokio::task::yield_now().await;
        }
        for task in tasks {
            let _ = task.await;
        }
        assert_eq!(turns.places.available_permits(), 3);
        assert!(turns.lock().is_empty());
    }
}
