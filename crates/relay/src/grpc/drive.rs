use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Status;

use super::{Frames, Traffic, proto};
use crate::wire::codec;
use crate::{End, Session};

/// Frames between a session and its socket: one being written, one ready. Each may be a chunk, so there are few.
pub(super) const WRITE_AHEAD: usize = 2;

/// Time as sessions know it: since the process began to relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }

    fn instant(self, at: Duration) -> Instant {
        self.0 + at
    }
}

/// What the owner of a stream wants of it.
#[derive(Clone, Debug, Default)]
pub(super) enum Control {
    #[default]
    Run,
    Drain(String),
    End(End),
}

/// A stream with all that a session needs beside itself.
pub(super) struct Wires<'a, I> {
    pub(super) incoming: &'a mut Frames,
    pub(super) outgoing: &'a mpsc::Sender<proto::Frame>,
    /// The newest value for the session: what is between two values is skipped.
    pub(super) inputs: &'a mut watch::Receiver<Option<I>>,
    pub(super) control: &'a mut watch::Receiver<Control>,
    pub(super) traffic: &'a Traffic,
    pub(super) clock: Clock,
    /// What it means when the transport gives a status instead of a frame.
    pub(super) failed: fn(&Status) -> End,
}

/// Runs a session on a stream until it ends. Frames that say why it ended are written if there is room for them.
pub(super) async fn drive<S: Session, I: Clone>(
    session: &mut S,
    wires: Wires<'_, I>,
    feed: impl Fn(&mut S, Duration, I),
    mut on_event: impl FnMut(&mut S, S::Event),
) -> End {
    let Wires { incoming, outgoing, inputs, control, traffic, clock, failed } = wires;
    let mut inputs_open = true;
    let mut control_open = true;
    let end = loop {
        // A peer that sends without end must not keep deadlines from being looked at.
        let now = clock.now();
        if session.wake_at() <= now {
            session.tick(now);
        }
        while let Some(event) = session.event() {
            on_event(session, event);
        }
        if let Some(end) = session.end() {
            break end.clone();
        }
        tokio::select! {
            // In this order, so that what the peer decides holds nothing else up.
            biased;
            changed = control.changed(), if control_open => {
                control_open = changed.is_ok();
                let wanted = control.borrow_and_update().clone();
                match wanted {
                    Control::Run => {}
                    Control::Drain(message) => session.drain(clock.now(), message),
                    Control::End(end) => session.close(end),
                }
            }
            changed = inputs.changed(), if inputs_open => {
                inputs_open = changed.is_ok();
                let input = inputs.borrow_and_update().clone();
                if let Some(input) = input {
                    feed(session, clock.now(), input);
                }
            }
            permit = outgoing.reserve(), if session.wants_transmit() => match permit {
                Ok(permit) => if let Some(frame) = session.transmit(clock.now()) {
                    let frame = codec::encode(frame);
                    traffic.sent(&frame);
                    permit.send(frame);
                },
                Err(_) => session.close(End::Lost("the stream does not take frames any more".to_owned())),
            },
            frame = incoming.next() => match frame {
                Some(Ok(frame)) => {
                    traffic.received(&frame);
                    match codec::decode(frame) {
                        Ok(frame) => session.receive(clock.now(), frame),
                        Err(error) => session.close(End::Violation(error)),
                    }
                }
                None => session.close(End::Lost("the peer closed the stream".to_owned())),
                Some(Err(status)) => session.close(failed(&status)),
            },
            () = tokio::time::sleep_until(clock.instant(session.wake_at())) => session.tick(clock.now()),
        }
    };
    while let Ok(permit) = outgoing.try_reserve()
        && let Some(frame) = session.transmit(clock.now())
    {
        let frame = codec::encode(frame);
        traffic.sent(&frame);
        permit.send(frame);
    }
    end
}
