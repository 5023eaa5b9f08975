"""The page of `birthgpt app`, in Gradio. What it shows comes from `commands.inquiry`."""
