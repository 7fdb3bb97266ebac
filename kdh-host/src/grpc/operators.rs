//! What all services of operators have in common: a call whose request has come whole is run to its end, also when the
//! caller hangs up. What it has asked of the HSM, or has claimed, is never left halfway.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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

use super::{Audience, status};
use crate::{HostError, limits::Places};

type Answer = Result<http::Response<Body>, Infallible>;

/// A service whose calls are run to their end. Each keeps its place as long.
#[derive(Clone)]
pub(crate) struct ToTheEnd<S> {
    service: S,
    places: Places,
}

impl<S> ToTheEnd<S> {
    pub(crate) fn new(service: S, places: &Places) -> Self {
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
        let refused = |error: &HostError| status(S::NAME, Audience::Operator, error).into_http();
        let place = match self.places.take() {
            Ok(place) => place,
            Err(error) => return Box::pin(async move { Ok(refused(&error)) }),
        };
        let is_whole = Arc::new(AtomicBool::new(false));
        let arriving = Arc::clone(&is_whole);
        let request = request.map(|body| {
            Body::new(Arriving {
                body,
                is_whole: arriving,
            })
        });
        let call = self.service.call(request);
        let task = tokio::spawn(async move {
            let answer = call.await;
            drop(place);
            answer
        });
        let mut awaited = Awaited { task, is_whole };
        Box::pin(async move {
            match (&mut awaited.task).await {
                Ok(answer) => answer,
                Err(error) => Ok(refused(&HostError::Internal(error.to_string()))),
            }
        })
    }
}

/// A call whose caller waits for the answer.
struct Awaited {
    task: JoinHandle<Answer>,
    is_whole: Arc<AtomicBool>,
}

impl Drop for Awaited {
    /// Of a request that has not come whole nothing was begun, and nobody sends the rest.
    fn drop(&mut self) {
        if !self.is_whole.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

/// A request that comes in.
struct Arriving {
    body: Body,
    is_whole: Arc<AtomicBool>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = &frame {
            self.is_whole.store(true, Ordering::Release);
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
