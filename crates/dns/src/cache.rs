//! What has been answered, for as long as the answer says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tuyau_core::Instant;

use crate::wire::{Answer, Question};

/// Answers that are kept.
const CAPACITY: usize = 1024;
/// Nothing is believed for longer (RFC 8767 section 4 recommends a week at most), nor an absence
/// (RFC 2308 section 5: up to three hours work well).
const LONGEST: u32 = 24 * 3600;
const LONGEST_ABSENCE: u32 = 3 * 3600;

#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<Question, Entry>>);

#[derive(Debug)]
struct Entry {
    answer: Answer,
    until: Instant,
}

impl Cache {
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Answer> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(question).filter(|entry| now < entry.until).map(|entry| entry.answer.clone())
    }

    /// Keeps `answer` for `ttl` seconds. Without a TTL it is not kept.
    pub(crate) fn put(&self, question: Question, answer: &Answer, ttl: Option<u32>, now: Instant) {
        let longest = if matches!(answer, Answer::Records(_)) { LONGEST } else { LONGEST_ABSENCE };
        let ttl = match ttl {
            None | Some(0) => return,
            Some(ttl) => ttl.min(longest),
        };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.retain(|_, entry| now < entry.until);
        }
        if entries.len() >= CAPACITY {
            let soonest =
                entries.iter().min_by_key(|(_, entry)| entry.until).map(|(question, _)| question.clone());
            soonest.and_then(|question| entries.remove(&question));
        }
        let until = now + Duration::from_secs(ttl.into());
        entries.insert(question, Entry { answer: answer.clone(), until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Name, RecordType};

    fn question(n: usize) -> Question {
        Question { name: Name::from_ascii(format!("n{n}.example.")).unwrap(), kind: RecordType::A }
    }

    fn at(secs: u64) -> Instant {
        Instant::new(Duration::from_secs(secs))
    }

    #[test]
    fn an_answer_is_kept_for_its_ttl_and_no_longer() {
        let cache = Cache::default();
        cache.put(question(1), &Answer::NoName, Some(10), at(100));
        assert_eq!(cache.get(&question(1), at(109)), Some(Answer::NoName));
        assert_eq!(cache.get(&question(1), at(110)), None);
        cache.put(question(2), &Answer::NoName, None, at(100));
        cache.put(question(3), &Answer::NoName, Some(0), at(100));
        assert_eq!(cache.get(&question(2), at(100)), None);
        assert_eq!(cache.get(&question(3), at(100)), None);
        cache.put(question(4), &Answer::NoName, Some(u32::MAX), at(0));
        assert_eq!(cache.get(&question(4), at(LONGEST_ABSENCE.into())), None);
    }

    #[test]
    fn it_is_bounded_and_forgets_what_ends_first() {
        let cache = Cache::default();
        for n in 0..=CAPACITY {
            cache.put(question(n), &Answer::NoName, Some(100 + n as u32), at(0));
        }
        assert_eq!(cache.get(&question(0), at(1)), None);
        assert!(cache.get(&question(1), at(1)).is_some() && cache.get(&question(CAPACITY), at(1)).is_some());
    }
}
