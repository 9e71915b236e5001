//! The echo through bare sockets: whoever forwards reads one ROUTER and writes the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use zeromq::{DealerSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::parts::{Part, stay};
use crate::{Measured, check, is_over};

pub(crate) struct Echo {
    client: tokio::sync::Mutex<DealerSocket>,
    _parts: [Part; 2],
    sent: Mutex<VecDeque<Instant>>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let queue = Part::start("bare-queue", &[]);
        let (front, back) = queue.place.split_once(' ').expect("two places");
        let worker = Part::start("bare-worker", &[back]);
        let mut client = DealerSocket::new();
        client.connect(front).await.expect("a connection");
        Self { client: tokio::sync::Mutex::new(client), _parts: [queue, worker], sent: Mutex::default() }
    }

    /// One socket with so many messages under way.
    pub(crate) async fn measure(&self, size: usize, outstanding: usize, run: Duration) -> Measured {
        let payload = Bytes::from(vec![b'x'; size]);
        let mut client = self.client.lock().await;
        let mut measured = Measured::default();
        let start = Instant::now();
        for _ in 0..outstanding {
            self.send(&mut client, &payload).await;
        }
        while !is_over(start, run) {
            self.receive(&mut client, size, &mut measured).await;
            self.send(&mut client, &payload).await;
        }
        for _ in 0..outstanding {
            self.receive(&mut client, size, &mut measured).await;
        }
        measured.took = start.elapsed();
        measured
    }

    async fn send(&self, client: &mut DealerSocket, payload: &Bytes) {
        self.sent.lock().push_back(Instant::now());
        client.send(ZmqMessage::from(payload.clone())).await.expect("a socket that sends");
    }

    async fn receive(&self, client: &mut DealerSocket, size: usize, measured: &mut Measured) {
        let answer = client.recv().await.expect("an answer");
        check(answer.get(0).is_some_and(|frame| frame.len() == size));
        let sent = self.sent.lock().pop_front().expect("something sent");
        measured.round_trips.add(sent.elapsed());
    }
}

pub(crate) async fn be_queue() {
    let (mut front, mut back) = (RouterSocket::new(), RouterSocket::new());
    let front_at = front.bind("tcp://127.0.0.1:0").await.expect("a port").to_string();
    let back_at = back.bind("tcp://127.0.0.1:0").await.expect("a port").to_string();
    tokio::spawn(async move {
        let ready = back.recv().await.expect("a worker that is ready");
        let route = ready.into_vec().swap_remove(0);
        forward(front, back, route).await;
    });
    stay(&format!("{front_at} {back_at}")).await;
}

pub(crate) async fn be_worker(back: &str) {
    let mut worker = DealerSocket::new();
    worker.connect(back).await.expect("a connection");
    worker.send(ZmqMessage::from("READY")).await.expect("a worker that says so");
    tokio::spawn(mirror(worker));
    stay("ready").await;
}

async fn mirror(mut worker: DealerSocket) {
    while let Ok(message) = worker.recv().await {
        if worker.send(message).await.is_err() {
            return;
        }
    }
}

/// `[client][payload]` becomes `[worker][client][payload]` and back.
async fn forward(mut front: RouterSocket, mut back: RouterSocket, worker: Bytes) {
    loop {
        let done = tokio::select! {
            asked = front.recv() => match asked {
                Ok(mut asked) => {
                    asked.push_front(worker.clone());
                    back.send(asked).await
                }
                Err(_) => return,
            },
            answered = back.recv() => match answered {
                Ok(answered) => {
                    let mut frames = answered.into_vecdeque();
                    frames.pop_front();
                    let answered = ZmqMessage::try_from(frames).expect("what the worker was sent");
                    front.send(answered).await
                }
                Err(_) => return,
            },
        };
        if done.is_err() {
            return;
        }
    }
}
