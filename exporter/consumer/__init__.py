"""The loop: wait for answers, submit what they brought to the ledger, delete what is committed, receive."""
