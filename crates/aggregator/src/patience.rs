//! Pauses between questions to those who do not answer as a device.
//!
//! Whoever joins names the port at which it is asked, which may be another's. So whoever does not answer is
//! asked ever more rarely, and whoever answers something else only so often.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use zfl_clock::Instant;

/// Part of a silence that goes by before the next question.
const PART: u32 = 4;

/// Strange answers after which nobody is asked any more.
const MOST_STRANGE: u32 = 12;

/// Answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The device's own answer.
    Device,
    /// None.
    Silence,
    /// Something that the device would not say.
    Strange,
}

/// A client, and the address that it is asked at.
pub(crate) type Key = (u32, SocketAddr);

/// Questions to the devices of one state.
#[derive(Debug)]
pub(crate) struct Questions {
    interval: Duration,
    longest: Duration,
    asked: BTreeMap<Key, Asked>,
}

#[derive(Debug)]
struct Asked {
    /// Time of the next question; none while one is under way.
    next: Option<Instant>,
    /// Begin of a silence, or of strange answers.
    since: Option<Instant>,
    strange: u32,
}

impl Questions {
    /// Nobody has been asked. Who answers is asked at that interval, and others at most that much later.
    pub fn new(interval: Duration, longest: Duration) -> Self {
        Self {
            interval,
            longest,
            asked: BTreeMap::new(),
        }
    }

    /// Forgets those that are not to be asked any more.
    pub fn forget(&mut self, is_to_be_asked: impl Fn(&Key) -> bool) {
        self.asked
            .retain(|key, asked| asked.next.is_none() || is_to_be_asked(key));
    }

    /// Up to `most` of these whose time has come, as asked.
    pub fn due(&mut self, those: impl Iterator<Item = Key>, most: usize) -> Vec<Key> {
        let now = Instant::now();
        let mut take = |key: &Key| {
            let asked = self.asked.entry(*key).or_insert(Asked {
                next: Some(now),
                since: None,
                strange: 0,
            });
            let next = asked.next.take_if(|next| *next <= now);
            next.is_some()
        };
        those.filter(|key| take(key)).take(most).collect()
    }

    /// Notes an answer; true if there was no use in asking and shall be no more of it.
    pub fn answered(&mut self, key: Key, answer: Answer) -> bool {
        let Some(asked) = self.asked.get_mut(&key) else {
            return false;
        };
        let now = Instant::now();
        if answer == Answer::Device {
            (asked.since, asked.strange) = (None, 0);
        } else {
            asked.since.get_or_insert(now);
        }
        asked.strange += u32::from(answer == Answer::Strange);
        let silence = asked.since.map_or(Duration::ZERO, |since| now - since);
        let part = match answer {
            Answer::Strange => 1,
            _ => PART,
        };
        let pause = (silence / part).clamp(self.interval, self.longest);
        asked.next = Some(now + pause);
        let is_over = asked.strange >= MOST_STRANGE;
        if is_over {
            self.asked.remove(&key);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(50);

    fn key(client: u32) -> Key {
        (client, ([127, 0, 0, 1], 22).into())
    }

    /// Questions to one that always answers so, in so much time.
    async fn count(answer: Answer, seconds: u64) -> u32 {
        let (mut questions, mut count) = (Questions::new(EVERY, Duration::from_secs(30)), 0);
        let began = Instant::now();
        while began.elapsed().as_secs() < seconds {
            for key in questions.due([key(1)].into_iter(), 12) {
                count += 1;
                if questions.answered(key, answer) {
                    return count;
                }
            }
            tokio::time::advance(EVERY).await;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_is_asked_often_silence_ever_more_rarely_and_strangers_no_more() {
        assert_eq!(count(Answer::Device, 60).await, 1200);
        let (minute, hour) = (
            count(Answer::Silence, 60).await,
            count(Answer::Silence, 3600).await,
        );
        assert!((10..40).contains(&minute), "{minute}");
        assert!((120..200).contains(&hour), "{hour}");
        assert_eq!(count(Answer::Strange, 3600).await, MOST_STRANGE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_again_or_joins_anew_is_asked_as_at_first() {
        let mut questions = Questions::new(EVERY, Duration::from_secs(30));
        for _ in 0..1000 {
            for key in questions.due([key(1)].into_iter(), 12) {
                questions.answered(key, Answer::Silence);
            }
            tokio::time::advance(EVERY).await;
        }
        assert_eq!(questions.due([key(1)].into_iter(), 12), []);
        // In another state for a moment: it has joined, and fetches its data.
        questions.forget(|_| false);
        assert_eq!(questions.due([key(1)].into_iter(), 12), [key(1)]);
        questions.answered(key(1), Answer::Device);
        tokio::time::advance(EVERY).await;
        assert_eq!(questions.due([key(1)].into_iter(), 12), [key(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_being_asked_is_not_asked_again_and_the_rest_waits_its_turn() {
        let mut questions = Questions::new(EVERY, Duration::from_secs(30));
        let all = [key(1), key(2), key(3)];
        let mut due = || questions.due(all.into_iter(), 2);
        assert_eq!(due(), all[..2]);
        assert_eq!(due(), all[2..]);
        assert_eq!(due(), []);
    }
}
