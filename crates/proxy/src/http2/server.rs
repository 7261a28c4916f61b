//! Clients' connections.

use std::rc::Rc;

use strait_http::{
    HeadError,
    h2::{Config, Connection, Key, Role},
};

use super::{
    Stream,
    drive::Driver,
    link::{Link, State},
};
use crate::{
    deadline::Deadline,
    exchange::Exchange,
    io::{self, Buffer},
    limits::Limits,
    record::Client,
    side::Side,
    stream::Stream as Either,
    worker::Worker,
};

fn config(limits: &Limits) -> Config {
    limits.floods.bound(Config { limits: limits.head, streams: limits.streams, ..Config::default() })
}

/// Serves a connection until it ends. `inbound` was read of it already.
pub(crate) async fn serve(worker: Rc<Worker>, io: io::Stream, inbound: Buffer, client: Rc<Client>) {
    let deadline = worker.deadlines.enter();
    let link = Link::new(Connection::new(Role::Server, config(&worker.limits)));
    let mut accept = |link: &Rc<Link>, state: &mut State, key: Key, error: Option<HeadError>| {
        let mut exchange = worker.exchange();
        state.h2.take_request(&mut exchange.head, exchange.text.end());
        let stream = Stream::of_client(Rc::clone(link), key);
        let deadline = worker.deadlines.enter();
        tokio::task::spawn_local(one(Rc::clone(&worker), Rc::clone(&client), exchange, stream, deadline, error));
    };
    Driver::new(&worker, &link, io, inbound, deadline).aging().run(&mut accept).await;
}

/// Serves one request.
async fn one(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut exchange: Box<Exchange>,
    stream: Stream,
    deadline: Deadline,
    error: Option<HeadError>,
) {
    let mut side = Side::Http2(Either::Http2(stream));
    match error {
        None => {
            exchange.begin(&worker, &client);
            exchange.run(&mut side, &deadline).await;
        }
        Some(error) => {
            exchange.head.clear();
            exchange.begin(&worker, &client);
            exchange.refuse(&worker, &mut side, &deadline, error).await;
        }
    }
    worker.done(exchange);
}
