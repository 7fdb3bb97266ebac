//! What all services of operators have in common: a call whose request has come whole takes a place, and is run to its
//! end, also when the caller hangs up. What it has asked of the HSM, or has claimed, is never left halfway. Half a request
//! takes no place, and begins nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http},
    server::NamedService,
};

use super::{Audience, caller, status};
use crate::{
    HostError,
    limits::{CallerKey, SharedPlace, SharedPlaces},
};

type Answer = Result<http::Response<Body>, Infallible>;

/// A service whose calls are run to their end. Each keeps its place as long.
#[derive(Clone)]
pub(crate) struct ToTheEnd<S> {
    service: S,
    places: SharedPlaces,
}

impl<S> ToTheEnd<S> {
    pub(crate) fn new(service: S, places: &SharedPlaces) -> Self {
        Self {
            service,
            places: places.clone(),
        }
    }
}

impl<S: NamedService> NamedService for ToTheEnd<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for ToTheEnd<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let arrival = Arrival {
            service: S::NAME,
            places: self.places.clone(),
            caller: caller(request.extensions()),
            stage: Arc::default(),
        };
        let stage = Arc::clone(&arrival.stage);
        let request = request.map(|body| Body::new(Arriving { body, arrival }));
        let call = self.service.call(request);
        let over = Arc::clone(&stage);
        let task = tokio::spawn(async move {
            let answer = call.await;
            // Of a stream, the request may come on; the place was for its beginning.
            *lock(&over) = Stage::Over;
            answer
        });
        let mut awaited = Awaited { task, stage };
        Box::pin(async move {
            match (&mut awaited.task).await {
                Ok(answer) => answer,
                Err(error) => {
                    let error = HostError::Internal(error.to_string());
                    Ok(status(S::NAME, Audience::Operator, &error).into_http())
                }
            }
        })
    }
}

/// A call whose caller waits for the answer.
struct Awaited {
    task: JoinHandle<Answer>,
    stage: Arc<Mutex<Stage>>,
}

impl Drop for Awaited {
    /// Of a request that has not come whole nothing was begun, and nobody sends the rest.
    fn drop(&mut self) {
        if let Stage::Coming = *lock(&self.stage) {
            self.task.abort();
        }
    }
}

/// How far a call is.
#[derive(Default)]
enum Stage {
    /// Its request has not come whole.
    #[default]
    Coming,
    /// It has its place.
    UnderWay(#[expect(dead_code, reason = "it is kept")] SharedPlace),
    /// It is answered, or its answer begins.
    Over,
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a request that has come whole.
struct Arrival {
    service: &'static str,
    places: SharedPlaces,
    caller: CallerKey,
    stage: Arc<Mutex<Stage>>,
}

impl Arrival {
    /// Takes the call's place.
    ///
    /// # Errors
    /// There is none: the call is answered with this, and not begun.
    fn is_whole(&self) -> Result<(), Status> {
        let mut stage = lock(&self.stage);
        if let Stage::Coming = *stage {
            let place = self.places.take(self.caller);
            let place = place.map_err(|error| status(self.service, Audience::Operator, &error))?;
            *stage = Stage::UnderWay(place);
        }
        Ok(())
    }
}

/// A request that comes in.
struct Arriving {
    body: Body,
    arrival: Arrival,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let is_last = match &frame {
            Poll::Ready(None) => true,
            // Nothing follows them, and nobody has to look whether anything does.
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            _ => false,
        };
        if is_last && let Err(refused) = self.arrival.is_whole() {
            return Poll::Ready(Some(Err(refused)));
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use kdh_proto::{Reason, ReasonedStatus as _};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    type Piece = Frame<Bytes>;

    /// A service that says when a request has come whole, and answers when it may.
    #[derive(Clone)]
    struct Slow {
        begun: mpsc::UnboundedSender<()>,
        may_end: Arc<Semaphore>,
    }

    impl NamedService for Slow {
        const NAME: &'static str = "slow";
    }

    impl Service<http::Request<Body>> for Slow {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Answer>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let Self { begun, may_end } = self.clone();
            let mut body = Box::pin(request.into_body());
            Box::pin(async move {
                // As tonic does: nothing is read behind trailers.
                let whole = std::future::poll_fn(|context| {
                    loop {
                        match std::task::ready!(http_body::Body::poll_frame(body.as_mut(), context))
                        {
                            Some(Ok(frame)) if frame.is_data() => {}
                            Some(Err(status)) => return Poll::Ready(Err(status)),
                            Some(Ok(_)) | None => return Poll::Ready(Ok(())),
                        }
                    }
                });
                if let Err(status) = whole.await {
                    return Ok(status.into_http());
                }
                begun.send(()).unwrap();
                may_end.acquire().await.unwrap().forget();
                Ok(Status::ok("done").into_http())
            })
        }
    }

    /// A request that comes piece by piece.
    struct Pieces(mpsc::UnboundedReceiver<Piece>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Piece, Status>>> {
            self.0.poll_recv(context).map(|piece| piece.map(Ok))
        }
    }

    struct Operators {
        service: ToTheEnd<Slow>,
        begun: mpsc::UnboundedReceiver<()>,
        may_end: Arc<Semaphore>,
    }

    /// A request whose rest is to come, and the answer.
    struct Call {
        pieces: mpsc::UnboundedSender<Piece>,
        answer: JoinHandle<Status>,
    }

    impl Operators {
        /// With so many places, and so many for one caller.
        fn with_places(all: u16, of_one: usize) -> Self {
            let (tell, begun) = mpsc::unbounded_channel();
            let may_end = Arc::new(Semaphore::new(0));
            let slow = Slow {
                begun: tell,
                may_end: Arc::clone(&may_end),
            };
            Self {
                service: ToTheEnd::new(slow, &SharedPlaces::new(all, of_one)),
                begun,
                may_end,
            }
        }

        /// Returns when a call has begun.
        async fn has_begun(&mut self) {
            let begun = tokio::time::timeout(PATIENCE, self.begun.recv()).await;
            begun.unwrap().unwrap();
        }

        /// Sends nothing but headers.
        fn call(&mut self) -> Call {
            let (pieces, body) = mpsc::unbounded_channel();
            let request = http::Request::new(Body::new(Pieces(body)));
            let answer = self.service.call(request);
            let answer = tokio::spawn(async {
                let answer = answer.await.unwrap();
                Status::from_header_map(answer.headers()).unwrap()
            });
            Call { pieces, answer }
        }
    }

    impl Call {
        fn end(self, has_trailers: bool) -> JoinHandle<Status> {
            if has_trailers {
                let trailers = Frame::trailers(http::HeaderMap::new());
                self.pieces.send(trailers).unwrap();
            }
            self.answer
        }
    }

    #[tokio::test]
    async fn half_a_request_takes_no_place() {
        let mut operators = Operators::with_places(2, 2);
        let half: Vec<_> = (0..20).map(|_| operators.call()).collect();
        for call in &half[10..] {
            let data = Bytes::from_static(b"half a message");
            call.pieces.send(Frame::data(data)).unwrap();
        }
        let whole = operators.call().end(false);
        operators.has_begun().await;
        assert!(half.iter().all(|call| !call.answer.is_finished()));
        operators.may_end.add_permits(1);
        assert_eq!(whole.await.unwrap().message(), "done");
    }

    #[tokio::test]
    async fn a_whole_request_has_a_place_of_its_callers_until_it_is_answered() {
        for has_trailers in [false, true] {
            let mut operators = Operators::with_places(3, 2);
            let mut under_way = Vec::new();
            for _ in 0..2 {
                under_way.push(operators.call().end(has_trailers));
                operators.has_begun().await;
            }
            let refused = operators.call().end(has_trailers).await.unwrap();
            assert_eq!(refused.reason(), Some(Reason::Overloaded));
            assert!(operators.begun.try_recv().is_err(), "nothing was begun");
            drop(operators.service.places.take([1; 32]).unwrap());
            operators.may_end.add_permits(3);
            for answer in under_way {
                assert_eq!(answer.await.unwrap().message(), "done");
            }
            let again = operators.call().end(has_trailers);
            assert_eq!(again.await.unwrap().message(), "done");
        }
    }

    #[tokio::test]
    async fn what_came_whole_goes_on_without_its_caller_and_nothing_else_does() {
        let mut operators = Operators::with_places(1, 1);
        let places = operators.service.places.clone();
        let whole = operators.call().end(false);
        operators.has_begun().await;
        whole.abort();
        assert!(whole.await.unwrap_err().is_cancelled());
        assert!(places.take([1; 32]).is_err(), "it goes on");
        operators.may_end.add_permits(1);
        while places.take([1; 32]).is_err() {
            tokio::task::yield_now().await;
        }
        let half = operators.call();
        half.answer.abort();
        assert!(half.answer.await.unwrap_err().is_cancelled());
        // Nobody waits for the rest.
        half.pieces.closed().await;
    }
}
