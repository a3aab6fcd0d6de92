//! Answers on their way to clients that may not read them.
//!
//! Invariants: an answer is handed to the connection in chunks (a stream in the frames it has), so that what is unread stays here; the
//! unread bytes of all answers together are bounded: those without progress for the longest time are
//! dropped first; an answer without progress for the write timeout is dropped, with what its body holds (a file, a
//! connection). Of a body that is a stream one frame is held. The client of a dropped answer sees a broken connection or
//! stream, never a complete body.

use std::{
    collections::BTreeMap,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use wick_core::{Clock, Monotonic};

use super::phases::Open;

/// How much is handed to a connection at once, in bytes.
pub(super) const CHUNK: usize = 64 * 1024;

/// All unread answers.
pub(super) struct Answers {
    max: usize,
    queue: Mutex<Queue>,
}

/// The time of the last progress, with a number that makes it unique.
type Key = (Monotonic, u64);

#[derive(Default)]
struct Queue {
    bytes: usize,
    next: u64,
    unread: BTreeMap<Key, Unread>,
}

/// What of an answer was not handed over yet; the request is open as long.
struct Unread {
    /// Bytes that were taken from the body.
    rest: Bytes,
    /// What comes after them.
    more: Source,
}

/// The body of a response, while its request is open.
struct Source {
    body: Body,
    #[expect(dead_code, reason = "the request is open until this is dropped")]
    open: Open,
}

impl Answers {
    /// No answers yet, and never more than `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, queue: Mutex::default() }
    }

    /// Drops the answers without progress for `patience`.
    pub(super) fn drop_stalled(&self, now: Monotonic, patience: Duration) {
        let mut queue = self.queue();
        let mut stalled = Vec::new();
        while let Some((&(progress, _), _)) = queue.unread.first_key_value()
            && progress + patience <= now
        {
            stalled.extend(queue.pop_oldest());
        }
        drop(queue);
        dropped(&stalled);
    }

    fn add(&self, now: Monotonic, unread: Unread) -> Key {
        let mut queue = self.queue();
        let key = queue.insert(now, unread);
        let mut evicted = Vec::new();
        while queue.bytes > self.max
            && let Some(oldest) = queue.pop_oldest()
        {
            evicted.push(oldest);
        }
        drop(queue);
        dropped(&evicted);
        key
    }

    fn remove(&self, key: Key) -> Option<Unread> {
        self.queue().remove(key)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dropped(answers: &[Unread]) {
    for answer in answers {
        metrics::counter!("wick_unread_answers_dropped_total").increment(1);
        tracing::debug!(bytes = answer.rest.len(), "dropped an answer that is not read");
    }
}

impl Queue {
    fn insert(&mut self, now: Monotonic, unread: Unread) -> Key {
        let key = (now, self.next);
        self.next = self.next.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(unread.rest.len());
        self.unread.insert(key, unread);
        key
    }

    fn remove(&mut self, key: Key) -> Option<Unread> {
        let unread = self.unread.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(unread.rest.len());
        Some(unread)
    }

    fn pop_oldest(&mut self) -> Option<Unread> {
        let (&key, _) = self.unread.first_key_value()?;
        self.remove(key)
    }
}

/// The body of an answer.
pub(super) struct Answer {
    answers: Arc<Answers>,
    clock: Arc<dyn Clock>,
    state: State,
    /// The bytes that are not handed over, if that is known.
    left: Option<u64>,
}

enum State {
    /// What comes next waits under this key until the connection asks for it.
    Unread(Key),
    /// The connection has asked, and the body has no bytes yet.
    Asked(Source),
    /// Nothing more comes.
    Done,
}

impl Answer {
    /// `response` with its body counted, while `open` is the request it answers.
    ///
    /// # Errors
    /// If the body breaks before its first bytes.
    pub(super) async fn wrap(
        response: Response,
        open: Open,
        answers: &Arc<Answers>,
    ) -> io::Result<http::Response<Self>> {
        let (parts, body) = response.into_parts();
        let mut answer = Self {
            answers: Arc::clone(answers),
            clock: Arc::clone(open.clock()),
            left: body.size_hint().exact(),
            state: State::Asked(Source { body, open }),
        };
        // Counted before the connection asks for it: it may never.
        if let Some(first) = std::future::poll_fn(|context| answer.poll_source(context)).await? {
            answer.keep(first);
        }
        Ok(http::Response::from_parts(parts, answer))
    }

    /// The next bytes of the body, if the connection has asked for them.
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Unread>>> {
        while let State::Asked(source) = &mut self.state {
            let frame = ready!(Pin::new(&mut source.body).poll_frame(context));
            let State::Asked(more) = mem::replace(&mut self.state, State::Done) else { break };
            match frame {
                None => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                // Nothing here sends trailers.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(rest) if !rest.is_empty() => {
                        return Poll::Ready(Ok(Some(Unread { rest, more })));
                    }
                    Ok(_) | Err(_) => self.state = State::Asked(more),
                },
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Keeps what is not handed over, counted, until the connection asks for it.
    fn keep(&mut self, unread: Unread) {
        self.state = State::Unread(self.answers.add(self.clock.monotonic(), unread));
    }

    /// Takes a chunk of what is unread, and keeps the rest.
    fn take_chunk(&mut self, Unread { mut rest, more }: Unread) -> Bytes {
        // Of a stream, what is held is no more than the frame.
        let is_stream = !more.body.is_end_stream();
        let chunk = if rest.len() > CHUNK && !is_stream {
            // A slice would keep the whole answer in memory.
            let chunk = Bytes::copy_from_slice(&rest.split_to(CHUNK));
            self.keep(Unread { rest, more });
            chunk
        } else {
            // The connection may keep the last chunk for as long as it likes: it is no request any more.
            if is_stream {
                self.keep(Unread { rest: Bytes::new(), more });
            }
            rest
        };
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.left = self.left.map(|left| left.saturating_sub(length));
        chunk
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let answer = &mut *self;
        if let State::Unread(key) = answer.state {
            answer.state = State::Done;
            let Some(unread) = answer.answers.remove(key) else {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the answer was not read");
                return Poll::Ready(Some(Err(error)));
            };
            if !unread.rest.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(answer.take_chunk(unread)))));
            }
            answer.state = State::Asked(unread.more);
        }
        let next = ready!(answer.poll_source(context)).transpose();
        Poll::Ready(next.map(|next| next.map(|unread| Frame::data(answer.take_chunk(unread)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Unread(_) => false,
            State::Asked(source) => source.body.is_end_stream(),
            State::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let State::Unread(key) = self.state {
            drop(self.answers.remove(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use wick_core::{Config, clock::ManualClock};

    use super::{super::phases::Phases, *};

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_unread_answer_is_dropped_and_ends_in_an_error() {
        let answers = Arc::new(Answers::new(250_000));
        let phases =
            Arc::new(Phases::new(Arc::new(ManualClock::default()), &Config::default().connections));
        let wrap = || {
            let response = Response::new(Body::from(vec![b'x'; 100_000]));
            Answer::wrap(response, Phases::begin(&phases, http::Version::HTTP_11), &answers)
        };
        let (first, second) = (wrap().await.unwrap(), wrap().await.unwrap());
        let third = wrap().await.unwrap();
        assert_eq!(answers.queue().bytes, 200_000);
        axum::body::to_bytes(Body::new(first.into_body()), 200_000).await.unwrap_err();
        for kept in [second, third] {
            let bytes = axum::body::to_bytes(Body::new(kept.into_body()), 200_000).await.unwrap();
            assert_eq!(bytes.len(), 100_000);
        }
        let queue = answers.queue();
        assert!(queue.bytes == 0 && queue.unread.is_empty());
    }

    /// A body without an end.
    struct Endless(Arc<()>);

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            assert!(Arc::strong_count(&self.0) > 0);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_on_is_dropped_with_its_source_and_ends_in_an_error() {
        let (answers, source) = (Arc::new(Answers::new(250_000)), Arc::new(()));
        let phases =
            Arc::new(Phases::new(Arc::new(ManualClock::default()), &Config::default().connections));
        let response = Response::new(Body::new(Endless(Arc::clone(&source))));
        let open = Phases::begin(&phases, http::Version::HTTP_2);
        let answer = Answer::wrap(response, open, &answers).await.unwrap();
        let mut body = Body::new(answer.into_body());
        for _ in 0..10 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "more");
        }
        answers.drop_stalled(Monotonic(Duration::from_secs(29)), Duration::from_secs(30));
        body.frame().await.unwrap().unwrap();
        answers.drop_stalled(Monotonic(Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(Arc::strong_count(&source), 1);
        body.frame().await.unwrap().unwrap_err();
    }
}
