"""What happens before `import proxconnect` imports torch, which takes seconds."""

from proxconnect._support.termination import end_command_at_ctrl_c

end_command_at_ctrl_c()
