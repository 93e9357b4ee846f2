import { useEffect, useRef, useState } from 'preact/hooks';
import { signInWanted } from '../session.js';

/** Asks for a token, which stays in this tab. */
export function SignIn({ onToken }: { onToken: (token: string) => void }) {
  const [token, setToken] = useState('');
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <main id="main" class="sign-in">
      <form
        class="panel stack"
        onSubmit={(event) => {
          event.preventDefault();
          onToken(token.trim());
        }}
      >
        <h1 tabIndex={-1}>Sign in</h1>
        <p class="problem" role="alert">
          {signInWanted.value}
        </p>
        <label>
          Token
          <input
            ref={field}
            type="password"
            required
            autocomplete="off"
            spellcheck={false}
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        <p class="soft">
          A bearer token or a JWT, as programs send it. It is kept until this tab is closed, and sent to this
          service only.
        </p>
        <div class="actions">
          <button type="submit" class="primary" disabled={token.trim() === ''}>
            Sign in
          </button>
        </div>
      </form>
    </main>
  );
}
