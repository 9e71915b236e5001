use proptest::prelude::*;

use super::*;

const AT: Place = Place { channel: 7, received: 8 };

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Worker), Just(Role::Operator)]
}

fn places() -> impl Strategy<Value = Place> {
    any::<[u64; 2]>().prop_map(|[channel, received]| Place { channel, received })
}

fn payloads() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn hellos() -> impl Strategy<Value = ToHost> {
    (any::<u8>(), any::<u128>(), any::<[u64; 4]>(), roles(), any::<Option<[u8; 32]>>()).prop_map(
        |(protocol, client, [incarnation, run, channel, received], role, token)| {
            ToHost::Hello(Hello { protocol, client, incarnation, run, channel, received, role, token })
        },
    )
}

fn services() -> impl Strategy<Value = ServiceName> {
    "[a-z0-9._-]{1,64}".prop_map(ServiceName::from)
}

fn orders() -> impl Strategy<Value = OrderTerms> {
    let classes = prop_oneof![Just(Class::Idempotent), Just(Class::Once)];
    (services(), classes, any::<u32>()).prop_map(|(service, class, lease_ms)| OrderTerms {
        service,
        class,
        lease_ms,
    })
}

fn reports() -> impl Strategy<Value = WorkerReport> {
    prop_oneof![
        Just(WorkerReport::Progress),
        (any::<u64>(), payloads()).prop_map(|(index, payload)| WorkerReport::Piece { index, payload }),
        payloads().prop_map(|payload| WorkerReport::Done { payload }),
        payloads().prop_map(|payload| WorkerReport::Failed { payload }),
        payloads().prop_map(|payload| WorkerReport::GaveBack { payload }),
    ]
}

fn worker_bodies() -> impl Strategy<Value = WorkerBody> {
    prop_oneof![
        (any::<u16>(), prop::collection::vec(services(), 0..5))
            .prop_map(|(credit, services)| WorkerBody::Ready { credit, services }),
        Just(WorkerBody::Drain),
        (any::<u64>(), any::<u32>(), reports()).prop_map(|(job, attempt, report)| WorkerBody::Report {
            job,
            attempt,
            report
        }),
    ]
}

fn job_bodies() -> impl Strategy<Value = JobBody> {
    prop_oneof![
        (any::<u64>(), any::<[u32; 3]>(), services(), payloads()).prop_map(
            |(job, [attempt, remaining_ms, lease_ms], service, payload)| JobBody::Job {
                job,
                attempt,
                remaining_ms,
                lease_ms,
                service,
                payload
            }
        ),
        (any::<u64>(), any::<u32>()).prop_map(|(job, attempt)| JobBody::Recall { job, attempt }),
        any::<(u64, u32, bool)>().prop_map(|(job, attempt, is_paused)| JobBody::Pace {
            job,
            attempt,
            is_paused
        }),
    ]
}

fn client_bodies() -> impl Strategy<Value = ClientBody> {
    let requests = (any::<[u64; 2]>(), any::<[u32; 2]>(), prop::option::of(orders()), payloads()).prop_map(
        |([number, acked_through], [remaining_ms, attempt], order, payload)| ClientBody::Request {
            number,
            acked_through,
            remaining_ms,
            attempt,
            order,
            payload,
        },
    );
    let paces = any::<(u64, bool)>().prop_map(|(number, is_paused)| ClientBody::Pace { number, is_paused });
    let cancels = any::<u64>().prop_map(|number| ClientBody::Cancel { number });
    prop_oneof![requests, paces, cancels, worker_bodies().prop_map(ClientBody::Work)]
}

fn to_host() -> impl Strategy<Value = ToHost> {
    prop_oneof![
        hellos(),
        (places(), any::<[u64; 2]>()).prop_map(|(at, [acked_through, beat])| ToHost::Heartbeat {
            at,
            acked_through,
            beat
        }),
        (places(), any::<u64>(), client_bodies()).prop_map(|(at, serial, body)| ToHost::Said {
            at,
            serial,
            body
        }),
        places().prop_map(|at| ToHost::Ack { at }),
        Just(ToHost::Bye),
    ]
}

fn host_bodies() -> impl Strategy<Value = HostBody> {
    prop_oneof![
        any::<u64>().prop_map(|number| HostBody::Accepted { number }),
        (any::<u64>(), any::<u32>(), any::<u64>(), payloads()).prop_map(
            |(number, attempt, index, payload)| HostBody::Chunk { number, attempt, index, payload }
        ),
        (any::<u64>(), any::<u32>()).prop_map(|(number, attempt)| HostBody::Reset { number, attempt }),
        (any::<u64>(), payloads()).prop_map(|(number, payload)| HostBody::Result { number, payload }),
        (any::<u64>(), payloads()).prop_map(|(number, payload)| HostBody::Error { number, payload }),
        job_bodies().prop_map(HostBody::Work),
    ]
}

fn to_client() -> impl Strategy<Value = ToClient> {
    prop_oneof![
        (any::<u8>(), any::<[u64; 4]>(), any::<u32>(), roles()).prop_map(
            |(protocol, [incarnation, run, channel, received], heartbeat_ms, role)| {
                ToClient::Welcome(Welcome {
                    protocol,
                    incarnation,
                    run,
                    channel,
                    received,
                    heartbeat_ms,
                    role,
                })
            }
        ),
        (places(), any::<u64>()).prop_map(|(at, beat)| ToClient::Heartbeat { at, beat }),
        (places(), any::<u64>(), host_bodies()).prop_map(|(at, serial, body)| ToClient::Said {
            at,
            serial,
            body
        }),
        places().prop_map(|at| ToClient::Ack { at }),
        (0..Refusal::ALL.len(), payloads())
            .prop_map(|(index, payload)| ToClient::Refused { refusal: Refusal::ALL[index], payload }),
        Just(ToClient::Bye),
    ]
}

fn frames() -> impl Strategy<Value = Vec<Bytes>> {
    prop::collection::vec(payloads(), 0..6)
}

proptest! {
    #[test]
    fn client_frames_survive_the_wire(frame in to_host()) {
        prop_assert_eq!(ToHost::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn host_frames_survive_the_wire(frame in to_client()) {
        prop_assert_eq!(ToClient::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn whatever_decodes_is_exactly_what_we_would_have_written(kind in 0x00_u8..0x2c, mut frames in frames()) {
        if let Some(first) = frames.first_mut() {
            let mut header = vec![kind];
            header.extend_from_slice(first);
            *first = Bytes::from(header);
        }
        if let Ok(frame) = ToHost::decode(&frames) {
            prop_assert_eq!(frame.encode().concat(), frames.concat());
        }
        if let Ok(frame) = ToClient::decode(&frames) {
            prop_assert_eq!(frame.encode().concat(), frames.concat());
        }
    }

    #[test]
    fn a_header_cut_or_stretched_anywhere_is_refused(frame in to_host(), cut in 0_usize..120, extra in 1_usize..40) {
        let frames = frame.encode();
        let mut short = frames.clone();
        short[0].truncate(cut);
        if short[0].len() < frames[0].len() && !is_hello_without_token(&short[0]) && !ends_in_names(&short[0]) {
            prop_assert!(ToHost::decode(&short).is_err());
        }
        let mut long = frames.clone();
        long[0] = Bytes::from([&frames[0][..], &vec![0; extra]].concat());
        if !(is_hello(&frames[0]) && extra == Token::BYTES) {
            prop_assert!(ToHost::decode(&long).is_err());
        }
    }
}

/// A name cut short is a name.
fn ends_in_names(header: &[u8]) -> bool {
    matches!(header.first(), Some(&kind::READY | &kind::ORDER))
}

fn is_hello(header: &[u8]) -> bool {
    header.first() == Some(&kind::HELLO)
}

fn is_hello_without_token(header: &[u8]) -> bool {
    is_hello(header) && header.len() == 51
}

#[test]
fn a_long_payload_is_cut_into_frames_and_joined_again() {
    let payload = Bytes::from(vec![7; MESSAGE_PAYLOAD_MAX]);
    let frame = ToClient::Said { at: AT, serial: 1, body: HostBody::Result { number: 1, payload } };
    let frames = frame.encode();
    assert_eq!(frames.len(), 5);
    assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
    assert_eq!(ToClient::decode(&frames), Ok(frame));
}

#[test]
fn sizes_are_checked_before_anything_is_read() {
    let header = ToHost::Bye.encode().remove(0);
    let long = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    assert_eq!(
        ToHost::decode(&[header.clone(), long]),
        Err(FrameError::FrameBytes { found: FRAME_BYTES_MAX + 1 })
    );
    let part = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    let mut five = vec![header.clone()];
    five.extend(std::iter::repeat_n(part, 4));
    assert_eq!(ToHost::decode(&five), Err(FrameError::MessageBytes { found: MESSAGE_BYTES_MAX + 1 }));
    assert_eq!(ToHost::decode(&vec![header; 65]), Err(FrameError::Frames { found: 65 }));
    assert_eq!(ToHost::decode(&[]), Err(FrameError::Empty));
    assert_eq!(ToHost::decode(&[Bytes::new()]), Err(FrameError::Empty));
}

/// The layout is a format: another spelling of these bytes needs another protocol number.
#[test]
fn the_layout_is_frozen() {
    let body = ClientBody::Request {
        number: 3,
        acked_through: 2,
        remaining_ms: 5_000,
        attempt: 1,
        order: None,
        payload: Bytes::from_static(b"{}"),
    };
    let frames = ToHost::Said { at: AT, serial: 9, body }.encode();
    let mut header = vec![0x13];
    header.extend([0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8]);
    header.extend([0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x13, 0x88, 0, 0, 0, 1]);
    assert_eq!(frames, [Bytes::from(header), Bytes::from_static(b"{}")]);
    let chunk = HostBody::Chunk { number: 1, attempt: 2, index: 3, payload: Bytes::from_static(b"1") };
    let frames = ToClient::Said { at: AT, serial: 1, body: chunk }.encode();
    assert_eq!(frames[0].len(), 1 + 4 * 8 + 4 + 8);
    assert_eq!(frames[0][0], 0x24);
    for (is_paused, kind) in [(true, 0x17), (false, 0x18)] {
        let frames =
            ToHost::Said { at: AT, serial: 9, body: ClientBody::Pace { number: 3, is_paused } }.encode();
        let mut header = vec![kind];
        header.extend([0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8]);
        header.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(frames, [Bytes::from(header)]);
    }
}

#[test]
fn the_layout_of_workers_is_frozen() {
    let check = |frames: Vec<Bytes>, kind: u8, tail: &[u8]| {
        let mut header = vec![kind];
        header.extend([0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8]);
        header.extend(tail);
        assert_eq!(frames[0], Bytes::from(header));
    };
    let worker = |body| ToHost::Said { at: AT, serial: 9, body: ClientBody::Work(body) }.encode();
    let ready = WorkerBody::Ready { credit: 4, services: vec!["echo".into(), "inference".into()] };
    check(worker(ready), 0x01, b"\0\x04echo,inference");
    check(worker(WorkerBody::Drain), 0x03, b"");
    let job = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2];
    for (report, kind, index) in [
        (WorkerReport::Progress, 0x06, &[][..]),
        (WorkerReport::GaveBack { payload: Bytes::new() }, 0x07, &[]),
        (WorkerReport::Piece { index: 1, payload: Bytes::new() }, 0x09, &[0, 0, 0, 0, 0, 0, 0, 1]),
        (WorkerReport::Done { payload: Bytes::new() }, 0x0a, &[]),
        (WorkerReport::Failed { payload: Bytes::new() }, 0x0b, &[]),
    ] {
        check(worker(WorkerBody::Report { job: 3, attempt: 2, report }), kind, &[&job, index].concat());
    }
    let host = |body| ToClient::Said { at: AT, serial: 9, body: HostBody::Work(body) }.encode();
    let given = JobBody::Job {
        job: 3,
        attempt: 2,
        remaining_ms: 5_000,
        lease_ms: 1_000,
        service: "echo".into(),
        payload: Bytes::from_static(b"{}"),
    };
    check(host(given), 0x04, &[&job[..], &[0, 0, 0x13, 0x88, 0, 0, 0x03, 0xe8], b"echo"].concat());
    check(host(JobBody::Recall { job: 3, attempt: 2 }), 0x08, &job);
    check(host(JobBody::Pace { job: 3, attempt: 2, is_paused: true }), 0x0d, &job);
    check(host(JobBody::Pace { job: 3, attempt: 2, is_paused: false }), 0x0e, &job);
    let order = OrderTerms { service: "echo".into(), class: Class::Once, lease_ms: 0 };
    let body = ClientBody::Request {
        number: 3,
        acked_through: 2,
        remaining_ms: 5_000,
        attempt: 1,
        order: Some(order),
        payload: Bytes::new(),
    };
    let tail = [
        &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2][..],
        &[0, 0, 0x13, 0x88, 0, 0, 0, 1, 2],
        b"\0\0\0\0echo",
    ];
    check(ToHost::Said { at: AT, serial: 9, body }.encode(), 0x19, &tail.concat());
}
