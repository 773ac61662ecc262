"""The coordinator: it asks sites for rounds, checks what they answer, and averages.

Knows the signed study, the roster's public keys, and weights that are already private. Refuses to know
rows, and cannot: it imports nothing that holds them (a build rule). It trusts no reply: each is checked
against the study, the roster and the site's own ledger history before it counts.

    strategy          the round loop: ask, wait, check, average, record
    wire              TrainRequest to Flower message, Flower message to TrainReply
    validation        what a reply has to satisfy
    aggregation       averages in double precision
    mirror            each site's ledger counter and head, round by round
    checkpoint        what a broken-off study resumes from
    result            what a federation ends with, and its two files
    study_file        the signed study, verified
    storage           files that are whole or absent
    app               the Flower ServerApp
    local_grid        the same rounds in this process
    superlink         a SuperLink as a child process, and a run followed to its end
    rehearsal         the same rounds over a real SuperLink and SuperNodes on loopback
    folder            the coordinator's folder: settings, keys, certificates
    enrolment         invitations that it gives out, requests that it takes back
    submissions       studies handed in, and where each of them stands
    service           the SuperLink kept running, the handed-in studies run one after the other
    bundle            the code-free app bundle: two files, no Python
    flower_adapter    every Flower name that is not public, in one place
"""
