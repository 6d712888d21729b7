"""The loop: wait for answers, record what they brought, delete what is committed, receive."""
