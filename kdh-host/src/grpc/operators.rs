//! What all services of operators have in common: a call whose request has come whole takes a place, and is run to its
//! end, also when the caller hangs up. What it has asked of the HSM, or has claimed, is never left halfway. Half a request
//! takes no place and begins nothing, whether its rest is still to come or it was broken off.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;
use tonic::{
    Request, Status,
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

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let arrival = Arrival {
            service: S::NAME,
            places: self.places.clone(),
            caller: caller(request.extensions()),
            stage: Arc::default(),
        };
        let stage = Arc::clone(&arrival.stage);
        request.extensions_mut().insert(arrival.clone());
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
        let mut stage = lock(&self.stage);
        if let Stage::Coming = *stage {
            // The end of it may just be read, and until that is done the task goes on.
            *stage = Stage::GivenUp;
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
    /// Nobody waits for it any more.
    GivenUp,
    /// It has its place.
    UnderWay(Arc<SharedPlace>),
    /// It is answered, or its answer begins.
    Over,
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of the call that a request has begun, for what goes on behind the beginning of the answer. A request
/// that never comes whole, as that of a switch, takes it by this.
///
/// # Errors
/// There is none: the call is answered with this, and not begun.
pub(super) fn place<T>(request: &Request<T>) -> Result<Arc<SharedPlace>, Status> {
    let arrival = request.extensions().get::<Arrival>();
    arrival.ok_or_else(not_whole)?.place()
}

/// What becomes of a request.
#[derive(Clone)]
struct Arrival {
    service: &'static str,
    places: SharedPlaces,
    caller: CallerKey,
    stage: Arc<Mutex<Stage>>,
}

impl Arrival {
    /// Whether its call has not begun.
    fn is_on_its_way(&self) -> bool {
        matches!(*lock(&self.stage), Stage::Coming | Stage::GivenUp)
    }

    /// The call's place, which it takes if it has none.
    fn place(&self) -> Result<Arc<SharedPlace>, Status> {
        let mut stage = lock(&self.stage);
        match &*stage {
            Stage::Coming => {
                let place = self
                    .places
                    .take(self.caller)
                    .map_err(|error| status(self.service, Audience::Operator, &error))?;
                let place = Arc::new(place);
                *stage = Stage::UnderWay(Arc::clone(&place));
                Ok(place)
            }
            Stage::UnderWay(place) => Ok(Arc::clone(place)),
            Stage::GivenUp | Stage::Over => Err(not_whole()),
        }
    }
}

fn not_whole() -> Status {
    Status::aborted("the request did not come whole")
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !self.arrival.is_on_its_way() {
            return Poll::Ready(frame);
        }
        let begun = match &frame {
            None => self.arrival.place().map(drop),
            // Nothing follows them, and nobody has to look whether anything does.
            Some(Ok(frame)) if frame.is_trailers() => self.arrival.place().map(drop),
            Some(Ok(_)) => Ok(()),
            // What the peer has cancelled is whole to tonic, once there is a message.
            Some(Err(_)) => Err(not_whole()),
        };
        Poll::Ready(match begun {
            Ok(()) => frame,
            Err(refused) => Some(Err(refused)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use kdh_proto::{
        Reason, ReasonedStatus as _,
        v1::{
            Approval, AskRotationRequest, ShowStorageRequest, ShowStorageResponse,
            key_storage_server::{KeyStorage, KeyStorageServer},
        },
    };
    use tokio::{
        sync::{Semaphore, mpsc, oneshot},
        time::timeout,
    };
    use tonic::{Response, metadata::MetadataMap};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    type Piece = Result<Frame<Bytes>, Status>;

    /// A message without a field, as it travels.
    fn message() -> Bytes {
        Bytes::from_static(&[0; 5])
    }

    /// A service that says when a call has begun, and answers when it may.
    #[derive(Clone)]
    struct Slow {
        begun: mpsc::UnboundedSender<()>,
        may_end: Arc<Semaphore>,
    }

    impl Slow {
        async fn run(&self) -> Status {
            self.begun.send(()).unwrap();
            self.may_end.acquire().await.unwrap().forget();
            // Such an answer is in the headers whole.
            Status::unknown("done")
        }
    }

    #[tonic::async_trait]
    impl KeyStorage for Slow {
        async fn show_storage(
            &self,
            _: Request<ShowStorageRequest>,
        ) -> Result<Response<ShowStorageResponse>, Status> {
            Err(self.run().await)
        }

        async fn ask_rotation(
            &self,
            _: Request<AskRotationRequest>,
        ) -> Result<Response<Approval>, Status> {
            Err(Status::unimplemented("nobody asks"))
        }
    }

    /// The same, of calls whose requests never come whole.
    #[derive(Clone)]
    struct Streams(Slow);

    impl NamedService for Streams {
        const NAME: &'static str = "streams";
    }

    impl Service<http::Request<Body>> for Streams {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Answer>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(MetadataMap::new(), parts.extensions, body);
            let Self(slow) = self.clone();
            Box::pin(async move {
                let answer = match place(&request) {
                    Ok(_) => slow.run().await,
                    Err(refused) => refused,
                };
                Ok(answer.into_http())
            })
        }
    }

    /// A request that comes piece by piece.
    struct Pieces(mpsc::UnboundedReceiver<Piece>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
            self.0.poll_recv(context)
        }
    }

    /// A whole request, whose caller hangs up while its end is read.
    struct HungUp {
        message: Option<Bytes>,
        answer: oneshot::Receiver<BoxFuture<'static, Answer>>,
    }

    impl http_body::Body for HungUp {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
            let message = self.message.take();
            if message.is_none() {
                drop(self.answer.try_recv().unwrap());
            }
            Poll::Ready(message.map(|message| Ok(Frame::data(message))))
        }
    }

    struct Operators<S = KeyStorageServer<Slow>> {
        service: ToTheEnd<S>,
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
            Self::serving(KeyStorageServer::new, all, of_one)
        }
    }

    impl<S> Operators<S>
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService,
        S::Future: Send + 'static,
    {
        fn serving(serve: impl FnOnce(Slow) -> S, all: u16, of_one: usize) -> Self {
            let (tell, begun) = mpsc::unbounded_channel();
            let may_end = Arc::new(Semaphore::new(0));
            let slow = Slow {
                begun: tell,
                may_end: Arc::clone(&may_end),
            };
            Self {
                service: ToTheEnd::new(serve(slow), &SharedPlaces::new(all, of_one)),
                begun,
                may_end,
            }
        }

        /// Returns when a call has begun.
        async fn has_begun(&mut self) {
            timeout(PATIENCE, self.begun.recv()).await.unwrap().unwrap();
        }

        /// Returns when all calls are over.
        async fn none_has_begun(mut self) {
            drop(self.service);
            let begun = timeout(PATIENCE, self.begun.recv()).await;
            assert_eq!(begun.unwrap(), None);
        }

        fn request(&mut self, body: Body) -> BoxFuture<'static, Answer> {
            let request = http::Request::post("/kdh.v1.KeyStorage/ShowStorage").body(body);
            self.service.call(request.unwrap())
        }

        /// Sends nothing but headers.
        fn call(&mut self) -> Call {
            let (pieces, body) = mpsc::unbounded_channel();
            let answer = self.request(Body::new(Pieces(body)));
            let answer = tokio::spawn(async {
                let answer = answer.await.unwrap();
                Status::from_header_map(answer.headers()).unwrap()
            });
            Call { pieces, answer }
        }
    }

    impl Call {
        fn send(&self, piece: Piece) {
            self.pieces.send(piece).unwrap();
        }

        fn end(self, has_trailers: bool) -> JoinHandle<Status> {
            self.send(Ok(Frame::data(message())));
            if has_trailers {
                self.send(Ok(Frame::trailers(http::HeaderMap::new())));
            }
            self.answer
        }
    }

    async fn answered(answer: JoinHandle<Status>) -> Status {
        timeout(PATIENCE, answer).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn half_a_request_takes_no_place() {
        let mut operators = Operators::with_places(2, 2);
        let half: Vec<_> = (0..20).map(|_| operators.call()).collect();
        for call in &half[5..10] {
            call.send(Ok(Frame::data(message().slice(1..))));
        }
        for call in &half[10..] {
            call.send(Ok(Frame::data(message())));
        }
        let whole = operators.call().end(false);
        operators.has_begun().await;
        assert!(half.iter().all(|call| !call.answer.is_finished()));
        operators.may_end.add_permits(1);
        assert_eq!(answered(whole).await.message(), "done");
    }

    #[tokio::test]
    async fn a_request_that_was_broken_off_begins_nothing() {
        // As RST_STREAM with CANCEL arrives, and with anything else.
        for error in [Status::cancelled("by the peer"), Status::internal("broken")] {
            let mut operators = Operators::with_places(1, 1);
            let broken = operators.call();
            broken.send(Ok(Frame::data(message())));
            broken.send(Err(error));
            let refused = answered(broken.answer).await;
            assert_eq!(refused.message(), "the request did not come whole");
            operators.none_has_begun().await;
        }
    }

    #[tokio::test]
    async fn whose_caller_hangs_up_while_the_request_is_read_begins_nothing() {
        let mut operators = Operators::with_places(1, 1);
        let (hand_over, answer) = oneshot::channel();
        let request = HungUp {
            message: Some(message()),
            answer,
        };
        let answer = operators.request(Body::new(request));
        assert!(hand_over.send(answer).is_ok());
        operators.none_has_begun().await;
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
            let refused = answered(operators.call().end(has_trailers)).await;
            assert_eq!(refused.reason(), Some(Reason::Overloaded));
            assert!(operators.begun.try_recv().is_err(), "nothing was begun");
            drop(operators.service.places.take([1; 32]).unwrap());
            operators.may_end.add_permits(3);
            for answer in under_way {
                assert_eq!(answered(answer).await.message(), "done");
            }
            let again = operators.call().end(has_trailers);
            assert_eq!(answered(again).await.message(), "done");
        }
    }

    #[tokio::test]
    async fn a_stream_has_a_place_for_its_beginning_and_goes_on_as_long_without_its_caller() {
        let mut operators = Operators::serving(Streams, 1, 1);
        let places = operators.service.places.clone();
        let first = operators.call();
        operators.has_begun().await;
        let refused = answered(operators.call().answer).await;
        assert_eq!(refused.reason(), Some(Reason::Overloaded));
        first.answer.abort();
        assert!(first.answer.await.unwrap_err().is_cancelled());
        assert!(places.take([1; 32]).is_err(), "it goes on");
        operators.may_end.add_permits(2);
        while places.take([1; 32]).is_err() {
            tokio::task::yield_now().await;
        }
        let next = operators.call();
        assert_eq!(answered(next.answer).await.message(), "done");
        drop(places.take([1; 32]).unwrap());
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
