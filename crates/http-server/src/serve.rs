//! Taking connections and answering them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::body::PacedBody;
use crate::limits::Limits;
use crate::places::{Place, Places, Taken};
use crate::stream::PacedStream;
use crate::timer::RunTimer;

/// Longest wait for exchanges under way when all is over.
const LAST_EXCHANGES: Duration = Duration::from_secs(1);

/// Pause when no connection can be taken: there are too many open files, say.
const NO_CONNECTION: Duration = Duration::from_millis(200);

/// Most bytes of a head, and about as many of a body that wait to be written.
const BUFFER: usize = 64 << 10;

/// Serves `router` until `over`, and then what is under way.
///
/// Each request carries its [`Place`], and what the second part of `connected` puts into its extensions; the
/// first is the stream of the connection, wrapped as the caller likes.
pub async fn serve<C, Io, Dress>(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    over: impl Future<Output = ()>,
    connected: C,
) where
    C: Fn(TcpStream, SocketAddr) -> (Io, Dress),
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Dress: Fn(&mut Extensions, &Place) + Send + Sync + 'static,
{
    let free = Arc::new(Semaphore::new(limits.places));
    let places = Places::new(&limits);
    let mut connections = JoinSet::new();
    tokio::pin!(over);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut over => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some(permit) = permit(&free, &places).await else {
            continue;
        };
        let (io, dress) = connected(stream, peer);
        let router = router.clone();
        places.take(peer.ip(), |taken| {
            connections.spawn(async move {
                let _permit = permit;
                exchange(io, router, limits, dress, taken).await;
            })
        });
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = zfl_clock::timeout(LAST_EXCHANGES, rest).await;
}

/// The next connection.
async fn accept(listener: &TcpListener, places: &Places) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // Broken before it was taken: the next one is another.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => {
                places.make_room();
                zfl_clock::sleep(NO_CONNECTION).await;
            }
        }
    }
}

/// A free place, made free if need be; `None` if all have owners.
async fn permit(
    free: &Arc<Semaphore>,
    places: &Places,
) -> Option<tokio::sync::OwnedSemaphorePermit> {
    if let Ok(permit) = free.clone().try_acquire_owned() {
        return Some(permit);
    }
    // It may also have been given back by now.
    if !places.make_room() {
        return free.clone().try_acquire_owned().ok();
    }
    free.clone().acquire_owned().await.ok()
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    limits: Limits,
    dress: impl Fn(&mut Extensions, &Place),
    taken: Taken,
) {
    let endpoints = TowerToHyperService::new(router);
    let place = &taken.0;
    let service = service_fn(|request: Request<Incoming>| {
        place.asks();
        let mut request = request.map(|body| Body::new(PacedBody::new(body, limits.pace)));
        dress(request.extensions_mut(), place);
        request.extensions_mut().insert(place.clone());
        answer(&endpoints, request)
    });
    // That it broke is the peer's affair: it tries again.
    let _ = http1::Builder::new()
        .timer(RunTimer)
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(PacedStream::new(io, limits.pace)), service)
        .await;
}

fn answer(
    endpoints: &TowerToHyperService<Router>,
    request: Request<Body>,
) -> impl Future<Output = Result<Response<Body>, std::convert::Infallible>> + use<> {
    endpoints.call(request)
}
